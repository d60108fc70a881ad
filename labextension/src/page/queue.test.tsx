import { signal } from "@preact/signals";
import { render } from "preact";
import { afterEach, describe, expect, it } from "vitest";
import type { Host } from "../kit/host";
import { QueueView } from "./queue";

const SCRIPT = "</script><img src=x onerror=alert(1)>";

function line(item: string, a: string, more: object = {}) {
  const sides = [a, `other of ${item}`].map((text, at) => ({ side: "AB"[at], text, images: [] }));
  return { task: { item, position: 1, total: 3, prompt: `asked ${item}`, images: [], sources: [], sides, side_order: "ab" }, ratings: [], ...more };
}

function rating(rater: string, value: string | null, more: object = {}) {
  return { rater, again: false, value, comment: null, flag: false, skip: null, correction: null, ...more };
}

function host(queue: object): Host {
  const answer = { data: queue as any, buffers: [] };
  return { kind: "embedded", call: async () => answer, listen: () => () => {}, waiting: signal(false) };
}

const OPEN = { name: "tone", mode: "pairwise", question: "Which?", levels: [], guide: "", closed: false, story: "3 items" };
const CLOSED = { ...OPEN, closed: true, story: "closed; 2 of 3 items have 2 ratings" };

async function shown(queue: object): Promise<HTMLElement> {
  const root = document.createElement("main");
  document.body.append(root);
  render(<QueueView host={host(queue)} />, root);
  await new Promise((done) => setTimeout(done, 20));
  return root;
}

async function set(field: HTMLInputElement | HTMLSelectElement, value: string, event: string) {
  field.value = value;
  field.dispatchEvent(new Event(event, { bubbles: true }));
  await new Promise((done) => setTimeout(done, 20));
}

const names = (root: HTMLElement) => [...root.querySelectorAll("article h2")].map((each) => each.textContent);

afterEach(() => {
  document.body.replaceChildren();
});

describe("a queue to be read", () => {
  it("says of an open one that it is blind, and shows texts as texts", async () => {
    const root = await shown({ ...OPEN, items: [line("r1", SCRIPT), line("r2", "**bold**")] });
    expect(root.textContent).toContain("The queue is open: who made the replies");
    expect(root.textContent).toContain(SCRIPT);
    expect(root.querySelector("img, script")).toBeNull();
    expect(root.querySelector("strong")?.textContent).toBe("bold");
    expect(root.querySelector("select[aria-label='Which items']")).toBeNull();
  });

  it("says of a closed one who made what, who said what and what was settled", async () => {
    const by = { A: "plain", B: "steps" };
    const said = [rating("ann", "a", { comment: SCRIPT, flag: true }), rating("bob", "b", { again: true }), rating("eve", null, { skip: "not mine" })];
    const root = await shown({ ...CLOSED, items: [line("r1", "one", { by, ratings: said, settled: { value: "a", reason: "shorter", by: "ann" }, gold: "b" })] });
    for (const part of ["A is plain · B is steps", "bob (shown again)", "skipped: not mine", "Settled by ann: A (shorter)", "Known value: B", SCRIPT])
      expect(root.textContent).toContain(part);
    expect(root.querySelector("img")).toBeNull();
  });

  it("searches in texts and in what was said, filters and sorts", async () => {
    const items = [
      line("r10", "aaa", { by: {}, ratings: [rating("ann", "a"), rating("bob", "b")] }),
      line("r2", "a longer text than the others", { by: {}, ratings: [rating("ann", "a", { comment: "Needle" })] }),
      line("r1", "c", { by: {} }),
    ];
    const root = await shown({ ...CLOSED, items });
    const search = root.querySelector<HTMLInputElement>("input[type=search]")!;
    const [which, order] = ["Which items", "Order"].map((label) => root.querySelector<HTMLSelectElement>(`select[aria-label='${label}']`)!);
    expect(names(root)).toEqual(["r10", "r2", "r1"]);
    await set(order!, "item", "change");
    expect(names(root)).toEqual(["r1", "r2", "r10"]);
    await set(order!, "length", "change");
    expect(names(root)[0]).toBe("r2");
    await set(search, "nEEDLE", "input");
    expect(names(root)).toEqual(["r2"]);
    await set(search, "", "input");
    await set(which!, "differing", "change");
    expect(names(root)).toEqual(["r10"]);
    await set(which!, "unrated", "change");
    expect(names(root)).toEqual(["r1"]);
  });

  it("shows the first items of many, and more when asked", async () => {
    const root = await shown({ ...OPEN, items: Array.from({ length: 60 }, (_, at) => line(`r${at}`, "x")) });
    expect(names(root)).toHaveLength(25);
    [...root.querySelectorAll("button")].at(-1)!.click();
    await new Promise((done) => setTimeout(done, 20));
    expect(names(root)).toHaveLength(50);
  });
});
