import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { mount } from "../kit/widget";
import { Clock, IDLE_MS } from "./clock";
import { Double, soon } from "./double";
import { marks } from "./marks";
import { RatingView } from "./panel";
import { SETTLE_MS } from "./session";
import { place, ranked, shown, stored, takeLast } from "./sides";

const sides = (...texts: string[]) => texts.map((text, at) => ({ side: "ABC"[at] as string, text, images: [] }));
let leave = () => {};

async function show(host: Double): Promise<HTMLElement> {
  const element = document.createElement("div");
  document.body.replaceChildren(element);
  leave = mount(element, RatingView, host);
  await soon(SETTLE_MS + 40);
  return element;
}

async function type(element: HTMLElement, ...keys: string[]): Promise<void> {
  for (const key of keys) {
    element.querySelector(".lr-panel")?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await soon(15);
  }
}

const buttons = (element: HTMLElement) => [...element.querySelectorAll<HTMLButtonElement>(".lr-answer")];

beforeEach(() => localStorage.clear());
afterEach(() => leave());

test("levels are buttons with their texts, and their digits rate", async () => {
  const host = new Double(["x", "y"]);
  const element = await show(host);
  expect(buttons(element).map((button) => button.textContent)).toEqual(["1level 1", "2level 2", "3level 3"]);
  await type(element, "2");
  expect(host.mine("x")?.value).toBe(2);
  expect(element.querySelector("[role=status]")?.textContent).toContain("Saved #1");
  expect(element.querySelector("article")?.dataset.item).toBe("y");
});

test("levels that are no digits are reached by their place", async () => {
  const levels = ["poor", "fair"].map((value) => ({ value, text: `${value} work` }));
  const host = new Double(["x"], { levels });
  await type(await show(host), "2");
  expect(host.mine("x")?.value).toBe("fair");
});

test("after s the very next key belongs to the reason", async () => {
  const element = await show(new Double(["x"]));
  element.querySelector(".lr-panel")?.dispatchEvent(new KeyboardEvent("keydown", { key: "s", bubbles: true, cancelable: true }));
  await Promise.resolve(); // no frame is drawn in between
  await Promise.resolve();
  expect(document.activeElement).toBe(element.querySelector(".lr-skip input"));
});

test("A stands for what is shown first, whatever side that is", async () => {
  const host = new Double(["x", "y", "z"], { mode: "pairwise", levels: [] }, sides("one", "two"), "ba");
  const element = await show(host);
  await type(element, "a");
  await soon(SETTLE_MS);
  await type(element, "e");
  await soon(SETTLE_MS);
  await type(element, "n");
  expect(["x", "y", "z"].map((item) => host.mine(item)?.value)).toEqual(["b", "tie", "bad"]);
  await type(element, "k");
  await type(element, "k", "k");
  expect(element.querySelector("h3")?.textContent).toContain("A · #1");
});

test("a ranking is given best first, with ties, and saved by Enter", async () => {
  const host = new Double(["x"], { mode: "ranking", levels: [] }, sides("one", "two", "three"), "cab");
  const element = await show(host);
  await type(element, "2", "1", "Backspace", "3", "=", "1", "Enter");
  expect(host.mine("x")?.value).toBe("a>b=c");
});

test("keys with a modifier, repeated keys and keys in a field do not rate", async () => {
  const host = new Double(["x", "y"]);
  const element = await show(host);
  const panel = element.querySelector(".lr-panel") as HTMLElement;
  panel.dispatchEvent(new KeyboardEvent("keydown", { key: "2", ctrlKey: true, bubbles: true }));
  panel.dispatchEvent(new KeyboardEvent("keydown", { key: "2", repeat: true, bubbles: true }));
  element.querySelector("textarea")?.dispatchEvent(new KeyboardEvent("keydown", { key: "2", bubbles: true }));
  await soon(15);
  expect(host.rows.length).toBe(0);
});

test("S asks for a reason, G and ? open what they say, D marks differences, V changes how texts are shown", async () => {
  const host = new Double(["x", "y"], { mode: "pairwise", guide: "Be *fair*.", levels: [] }, sides("the red cat", "the blue cat"), "ab");
  const element = await show(host);
  await type(element, "g");
  expect(element.querySelector(".lr-drawer")?.textContent).toContain("Be fair.");
  await type(element, "?");
  expect(element.querySelector(".lr-keys")?.textContent).toContain("undo");
  await type(element, "Escape", "d");
  expect([...element.querySelectorAll("mark")].map((mark) => mark.textContent)).toEqual(["red", "blue"]);
  await type(element, "d", "v", "v");
  expect(element.querySelectorAll(".lr-source").length).toBe(3);
  await type(element, "s");
  const form = element.querySelector(".lr-skip") as HTMLElement;
  [...form.querySelectorAll("button")].find((button) => button.textContent?.includes("broken"))?.click();
  await soon(15);
  expect(host.mine("x")?.skip).toBe("The item is broken");
});

test("a text of a model stays text", async () => {
  const host = new Double(["x"], {}, sides("<img src=x onerror=alert(1)><script>1</script> [a](javascript:alert(1))"));
  const element = await show(host);
  expect(element.querySelector("img, script, a")).toBeNull();
  expect(element.querySelector(".lr-side")?.textContent).toContain("<img src=x onerror=alert(1)>");
});

test("without a line the panel says NOT SAVED in an alert and offers the file", async () => {
  const host = new Double(["x", "y"]);
  const element = await show(host);
  host.line = "cut";
  await type(element, "2");
  await vi.waitFor(() => expect(element.querySelector("[role=alert]")?.textContent).toContain("NOT SAVED (1)"));
  expect(element.querySelector("[role=alert]")?.textContent).toContain("Download what is not saved");
  expect(element.querySelector("[role=status]")?.textContent).toBe("");
});

test("a pause counts as 30 s at most, a hidden page not at all", () => {
  let now = 0;
  const clock = new Clock(() => now);
  now += 4000;
  clock.seen();
  now += 10 * IDLE_MS;
  expect(clock.seconds).toBe(34);
  clock.pause();
  now += 5000;
  clock.resume();
  now += 1000;
  expect(clock.seconds).toBe(35);
});

test("sides and rankings are turned into what is stored and back", () => {
  expect(stored("ranking", "C>A=B", "cab")).toBe("b>a=c");
  expect(shown("ranking", "b>a=c", "cab")).toBe("C>B=A");
  expect(stored("pairwise", "tie", "ba")).toBe("tie");
  const ranks = place(place(place([], "B", false), "A", true), "A", false);
  expect(ranked(ranks)).toBe("B=A");
  expect(takeLast(takeLast(ranks))).toEqual([]);
});

test("words that differ are marked on both sides", () => {
  const [left, right] = marks("a big dog", "a small dog") as [any, any];
  expect(left.filter((part: any) => part.differs)).toEqual([{ text: "big", differs: true }]);
  expect(right.map((part: any) => part.text).join("")).toBe("a small dog");
});
