import { signal } from "@preact/signals";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Host } from "./host";
import { Interval } from "./interval";
import { mount } from "./widget";

const host = (waiting = false, more: object = {}): Host => ({
  kind: "comm",
  call: () => new Promise(() => {}),
  listen: () => () => {},
  waiting: signal(waiting),
  ...more,
});
const settled = () => new Promise((resolve) => setTimeout(resolve, 30));

let place: HTMLElement;
beforeEach(() => {
  place = document.createElement("div");
  document.body.append(place);
});
afterEach(() => {
  place.remove();
  delete document.body.dataset.jpThemeLight;
});

test("keys typed in a view stay there; Tab and keys with a modifier go on", () => {
  const reached: string[] = [];
  const hear = (event: KeyboardEvent) => reached.push(event.key);
  document.addEventListener("keydown", hear);
  const inside: string[] = [];
  const leave = mount(place, () => <button onKeyDown={(event) => inside.push(event.key)}>here</button>, host());
  const button = place.querySelector("button")!;
  const press = (key: string, more: KeyboardEventInit = {}) => button.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
  for (const key of ["b", "j", "m", "d", "Enter", "Escape", "ArrowDown"]) press(key);
  press("B", { shiftKey: true });
  expect(reached).toEqual([]);
  press("Tab");
  press("s", { ctrlKey: true });
  press("s", { metaKey: true });
  press("x", { altKey: true });
  expect(reached).toEqual(["Tab", "s", "s", "x"]);
  expect(inside).toHaveLength(12);
  leave();
  expect(place.childNodes).toHaveLength(0);
  document.removeEventListener("keydown", hear);
});

test("the theme is JupyterLab's, also after it changes; elsewhere the system's", async () => {
  const leave = mount(place, () => <p>x</p>, host());
  const root = place.querySelector(".llmops-lab")!;
  expect(root.className).toBe("llmops-lab");
  document.body.dataset.jpThemeLight = "false";
  await settled();
  expect(root.className).toBe("llmops-lab ll-dark");
  document.body.dataset.jpThemeLight = "true";
  await settled();
  expect(root.className).toBe("llmops-lab ll-light");
  leave();
});

test("a view that breaks says so, as text", async () => {
  const leave = mount(
    place,
    () => {
      throw new Error("<b>no rows</b>");
    },
    host(),
  );
  await settled();
  expect(place.querySelector("[role=alert]")?.textContent).toContain("<b>no rows</b>");
  expect(place.querySelector("b")).toBeNull();
  leave();
});

test("a call that takes long is said, with its reason where the kernel has no threads", async () => {
  const waiting = signal(false);
  const leave = mount(place, () => <p>x</p>, host(false, { waiting, threaded: () => false }));
  expect(place.querySelector("[role=status]")?.textContent).toBe("");
  waiting.value = true;
  await settled();
  expect(place.querySelector("[role=status]")?.textContent).toContain("when the running cell has ended");
  leave();
});

test("an interval says its numbers; what is missing is not drawn as nought", () => {
  const leave = mount(
    place,
    () => (
      <>
        <Interval value={0.5} low={0.25} high={0.71234} min={0} max={1} zero={0} label="exact" />
        <Interval value={null} min={0} max={1} />
        <Interval value={2} low={NaN} high={NaN} min={1} max={1} />
      </>
    ),
    host(),
  );
  const drawn = [...place.querySelectorAll("svg")];
  expect(drawn.map((each) => each.getAttribute("aria-label"))).toEqual(["exact: 0.5, interval 0.25 to 0.712", "no value", "2"]);
  expect(drawn.map((each) => each.querySelectorAll("circle").length)).toEqual([1, 0, 1]);
  expect(drawn[0]?.querySelector("circle")?.getAttribute("cx")).toBe("60");
  leave();
});

test("a view whose kernel has ended says that it is not live", async () => {
  const ended = signal(false);
  const leave = mount(place, () => <p>x</p>, host(false, { ended }));
  ended.value = true;
  await settled();
  expect(place.querySelector("[role=status]")?.textContent).toContain("Not live");
  leave();
});
