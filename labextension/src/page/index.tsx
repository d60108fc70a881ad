// A page of its own: on the Jupyter server it asks over HTTP, in one HTML file it answers from what the file holds.
import { embedded, embeddedHost } from "../kit/embedded";
import { restHost } from "../kit/rest";
import { mount, type View } from "../kit/widget";
import { RatingView } from "../rating/panel";
import "./page.css";

const VIEWS: Record<string, View> = { rating: RatingView };

function begin(place: HTMLElement): void {
  const recorded = embedded();
  const View = VIEWS[recorded?.view ?? place.dataset.view ?? ""];
  if (!View) {
    place.textContent = "This page belongs to another version of its script. Reload it.";
    return;
  }
  place.replaceChildren();
  mount(place, View, recorded ? embeddedHost(recorded) : restHost(place.dataset.calls ?? ""));
}

const place = document.getElementById("llmops-lab");
if (place) begin(place);
