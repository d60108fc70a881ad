import { render } from "preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { embeddedHost, recordedAs } from "../kit/embedded";
import type { Host } from "../kit/host";
import { DiffView } from "./view";
import type { Cell, Filter, Line, Opened } from "./wire";
import { FILTERS } from "./wire";

const TEXTS = [
  ["refund", "delivery"],
  ['{"queue": "refund", "n": 1}', '{ "n": 1.0, "queue": "refund" }'],
  ["<b>bold</b><script>window.ran = 1</script>", "<b>bold</b>"],
];

function cell(text: string | null, score: boolean | null, replicate = 0): Cell {
  return { prompt: "p", model: "m", replicate, status: text === null ? "failed" : "ok", text, error: text === null ? "timeout" : "", finish_reason: "stop", latency_s: 0.5, cost_usd: 0, key: "k", score, score_note: "" };
}

const line = (row: number, given: Partial<Line> = {}): Line => ({ row, id: `T${row}`, title: `ticket ${row}`, outcome: "equal", a: 1, b: 1, gain: 0, flip: null, texts: "different", passed: [1, 1, 1, 1], ...given });
const LINES = [line(0, { outcome: "worse", b: 0, gain: -1, flip: "noise", passed: [2, 2, 1, 2] }), line(1, { texts: "same JSON" }), line(2), line(3, { outcome: "missing", b: null, gain: null, texts: "missing", passed: null })];
const IN: Record<Filter, Line[]> = { all: LINES, worse: [LINES[0]!], better: [], equal: [LINES[1]!, LINES[2]!], flips: [LINES[0]!], change: [], noise: [LINES[0]!], unknown: [], different: [LINES[0]!, LINES[2]!], missing: [LINES[3]!] };
const VARIANT = { mean: 0.8, scored: 4, replied: 4, histogram: [1, 3], version: "" };
const OPENED: Opened = {
  variants: [
    { ...VARIANT, name: "plain", text: "Sort: {{ ticket }}" },
    { ...VARIANT, name: "steps", text: "Think. Sort: {{ ticket }}", version: "triage/3" },
  ],
  by: "prompt",
  scorer: { name: "exact", higher_is_better: true, bounds: [0, 1] },
  edges: [0, 0.5, 1],
  pairs: [{ a: "plain", b: "steps", verdict: { outcome: "worse", sentence: "worse: steps loses to plain on exact", delta: -0.3, ci_low: -0.5, ci_high: -0.1 }, counts: Object.fromEntries(FILTERS.map((name) => [name, IN[name].length])) as Record<Filter, number> }],
  rows: 4,
  note: "",
  flips_note: "",
  slices_note: "",
  values_note: "",
  replicates: 2,
};
const SLICE = { at: 3, slice: "lang: de", kind: "metadata", n: 2, wins: 0, losses: 1, ties: 1, delta: -0.5, low: -0.9, high: 0.1, rest: 0, p_value: 0.01, q_value: 0.04, found: true, unlike: true, also: "" };

function recorded() {
  const answers: Record<string, { data: unknown }> = { open: { data: OPENED } };
  for (const name of FILTERS) answers[recordedAs("rows", { pair: 0, filter: name, start: 0, count: 200 })] = { data: { total: name === "all" ? 900 : IN[name].length, start: 0, rows: IN[name] } };
  answers[recordedAs("rows", { pair: 0, filter: "all", start: 0, count: 200, slice: 3 })] = { data: { total: 1, start: 0, rows: [LINES[0]] } };
  answers[recordedAs("slices", { pair: 0 })] = { data: { level: 0.1, tested: 5, groups: 9, slices: [SLICE], left_out: 0 } };
  for (const { row } of LINES) {
    const [a, b] = TEXTS[row] ?? ["only here", null];
    answers[recordedAs("row", { row })] = { data: { row, id: `T${row}`, values: [["ticket", `ticket ${row}`], ["lang", "de"]], pairs: [LINES[row]], variants: [[cell(a!, true), cell("again", true, 1)], [cell(b!, b === null ? null : false), cell("once more", true, 1)]] } };
  }
  return { view: "diff", answers, buffers: [] } as Parameters<typeof embeddedHost>[0];
}

let root: HTMLElement;
/** Drawing takes its time on a busy machine: what is expected comes about, or the test fails. */
const soon = (check: () => void) => vi.waitFor(check, { timeout: 8000, interval: 10 });
const find = (selector: string) => root.querySelector<HTMLElement>(selector)!;
const all = (selector: string) => [...root.querySelectorAll<HTMLElement>(selector)].map((each) => each.textContent);
function press(key: string) {
  find(".ll-diff").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
}
const lists = (...ids: string[]) => soon(() => expect(all(".ll-id")).toEqual(ids));
const opens = (id: string) => soon(() => expect(find(".ll-detail-head b")?.textContent).toBe(id));
async function open(host: Host = embeddedHost(recorded())) {
  render(<DiffView host={host} />, root);
  await opens("T0");
  await lists("T0", "T1", "T2", "T3");
}

beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  root.remove();
});

test("the verdict stands on top, regressions first, and a flip says whether it repeats", async () => {
  await open();
  expect(find(".ll-verdicts").textContent).toContain("worse: steps loses to plain");
  expect(find(".ll-flipped").textContent).toMatch(/does not repeat.*Passed: 2 of 2 → 1 of 2/);
  expect(find("[role=status]").textContent).toBe("row T0, 1 of 4: worse, flip, noise");
  expect(root.textContent).toContain("The first 4 of 900 rows are in this file");
});

test("differences are elements with words for those who do not see them, and hostile text is text", async () => {
  await open();
  expect(find("del").textContent).toBe("[removed: refund]");
  expect(find("ins").textContent).toBe("[added: delivery]");
  press("j");
  await opens("T1");
  expect(root.textContent).toContain("The same keys and values.");
  press("t");
  await soon(() => expect(root.querySelectorAll("ins").length).toBeGreaterThan(0));
  press("j");
  await opens("T2");
  expect(root.querySelector("script, b script")).toBeNull();
  expect(find(".ll-side").textContent).toContain("<script>window.ran = 1</script>");
  press("d");
  await soon(() => expect(root.querySelectorAll(".ll-side").length).toBe(1));
});

test("a reply that is missing is said to be missing", async () => {
  await open();
  press("m");
  await lists("T3");
  await opens("T3");
  expect(root.textContent).toContain("No reply: failed (timeout).");
});

test("keys choose rows, lists, replies and places; with Ctrl they are left to the page", async () => {
  await open();
  press("j");
  press("ArrowDown");
  press("k");
  await opens("T1");
  press("]");
  await soon(() => expect(find(".ll-side").textContent).toContain("again"));
  press("f");
  await lists("T0");
  press("f");
  await lists("T0", "T1", "T2", "T3");
  press("p");
  await soon(() => expect(root.textContent).toContain("steps (triage/3)"));
  press("h");
  await soon(() => expect(root.querySelectorAll("svg[role=img]").length).toBe(2));
  press("?");
  await soon(() => expect(root.querySelectorAll("kbd").length).toBeGreaterThan(10));
  const ctrl = new KeyboardEvent("keydown", { key: "r", ctrlKey: true, bubbles: true, cancelable: true });
  find(".ll-diff").dispatchEvent(ctrl);
  expect(ctrl.defaultPrevented).toBe(false);
  press("r");
  await lists("T0", "T1", "T2", "T3");
});

test("a slice leads to its rows; what a file does not hold is said, and the way back is there", async () => {
  await open();
  press("s");
  await soon(() => expect(find(".ll-slices")?.textContent).toMatch(/1 slice found among 9 groups.*false discovery rate held at 10 %/));
  find(".ll-link-button").click();
  await lists("T0");
  press("o");
  await soon(() => expect(find("[role=alert]")?.textContent).toContain("is not in it"));
  press("o");
  await lists("T0");
});

test("of an answer that comes late only the last list asked for is shown", async () => {
  const real = embeddedHost(recorded());
  let late = () => {};
  const slow: Host = {
    ...real,
    async call<T>(method: string, params: { filter?: string } = {}) {
      if (params.filter === "worse") await new Promise<void>((done) => (late = done));
      return real.call<T>(method, params);
    },
  };
  await open(slow);
  press("w");
  press("e");
  await lists("T1", "T2");
  late();
  await opens("T1");
  await lists("T1", "T2");
});

test("texts of another row do not stand there for one that could not be had, and old troubles do not hide slices", async () => {
  const real = embeddedHost(recorded());
  let broken = true;
  const host: Host = {
    ...real,
    async call<T>(method: string, params: { row?: number } = {}) {
      if (broken && (params.row === 1 || method === "slices")) throw new Error("the line is cut.");
      return real.call<T>(method, params);
    },
  };
  await open(host);
  press("j");
  await soon(() => expect(find("[role=alert]")?.textContent).toBe("Nothing came back: the line is cut."));
  await soon(() => expect(find(".ll-detail").textContent).toBe("No row to show."));
  press("s");
  await soon(() => expect(root.textContent).toContain("No slices: Nothing came back: the line is cut."));
  broken = false;
  press("s");
  await soon(() => expect(find(".ll-slices")?.textContent).toContain("1 slice found"));
});
