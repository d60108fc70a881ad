// A page of its own: on the Jupyter server it asks over HTTP, in one HTML file it answers from what the file holds.
import { DiffView } from "../diff/view";
import { GridView } from "../grid/view";
import { embedded, embeddedHost, type Recorded } from "../kit/embedded";
import type { Host } from "../kit/host";
import { restHost } from "../kit/rest";
import { mount, type View } from "../kit/widget";
import { RatingView } from "../rating/panel";
import { gridHost } from "./grid";
import { QueueView } from "./queue";
import "./page.css";

const VIEWS: Record<string, View> = { diff: DiffView, grid: GridView, rating: RatingView, queue: QueueView };

function begin(place: HTMLElement): void {
  const recorded = embedded();
  const View = VIEWS[recorded?.view ?? place.dataset.view ?? ""];
  if (!View) {
    place.textContent = "This page belongs to another version of its script. Reload it.";
    return;
  }
  place.replaceChildren();
  mount(place, View, recorded ? inFile(recorded) : restHost(place.dataset.calls ?? ""));
  if (recorded) place.append(copyNote(recorded));
  document.addEventListener("keydown", (event) => handOn(place, event));
}

function inFile(recorded: Recorded): Host {
  return recorded.view === "grid" ? gridHost(recorded) : embeddedHost(recorded);
}

function copyNote({ written }: Recorded): HTMLElement {
  const note = document.createElement("footer");
  note.textContent = `A copy to be read, written ${written ?? ""}. What changes anything is done in a notebook.`;
  return note;
}

/** Keys belong to the view, also before anybody has clicked into it: there is nothing else on the page. */
function handOn(place: HTMLElement, event: KeyboardEvent): void {
  if (event.target !== document.body) return;
  const view = place.querySelector<HTMLElement>(".llmops-lab [role=grid][tabindex], .llmops-lab > [tabindex]");
  if (!view || event.key === "Tab") return;
  view.focus({ preventScroll: true });
  if (!view.dispatchEvent(new KeyboardEvent("keydown", event))) event.preventDefault();
}

const place = document.getElementById("llmops-lab");
if (place) begin(place);
