import { signal } from "@preact/signals";
import { int32, tableFromArrays, tableToIPC, utf8, bool, float64 } from "@uwdata/flechette";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Answer, type Host, Refused, Unreachable } from "../kit/host";
import { mount } from "../kit/widget";
import { number, reply, seconds } from "./format";
import { Store } from "./store";
import type { Cell } from "./wire";
import { GridView } from "./view";

const STANDING = { state: "done", version: 1, ready: true, share: 1, total: 300, counts: { ok: 300 }, cost: null, broken: "", can_cancel: false, can_resume: false, why: "" };

const DETAIL = { row_id: "0", replicate: 0, prompt: "p", model: "m", status: "ok", text: "reply", error: "", message: "", finish_reason: "stop", tool_calls: "", expected: "", scores: [], numbers: {}, note: "", earlier: [], messages: null, why: "none", row: null, documents: [], provenance: [], run_link: "" };

function stream(columns: Record<string, [unknown[], any]>): DataView {
  const types = Object.fromEntries(Object.entries(columns).map(([name, [, type]]) => [name, type]));
  const made = tableFromArrays(Object.entries(columns).map(([name, [values]]) => [name, values] as [string, unknown[]]), { types });
  const bytes = tableToIPC(made, { format: "stream" })!;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function page(start: number, lines = 300, version = 1): Answer<any> {
  const at = Array.from({ length: Math.min(120, lines - start) }, (_, number) => start + number);
  const none = at.map(() => null);
  const cells = stream({
    cell: [at, int32()], line: [at, int32()], variant: [at.map(() => 0), int32()], status: [at.map(() => 1), int32()],
    text: [at.map((n) => `reply ${n}`), utf8()], finish: [at.map(() => "stop"), utf8()], error: [at.map(() => ""), utf8()], kept: [at.map(() => true), bool()],
    ...Object.fromEntries(["input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s", "score:exact"].map((name) => [name, [none, float64()]])),
  });
  const heads = stream({ row_id: [at.map(String), utf8()], replicate: [at.map(() => 0), int32()], asked: [at.map((n) => `<b>question ${n}</b>`), utf8()] });
  return { data: { start, size: 120, lines, cells: lines, version }, buffers: [cells, heads] };
}

let calls: [string, any][];
let element: HTMLElement;
let leave: () => void;
let standing: object = STANDING;

beforeEach(() => {
  calls = [];
  return shown();
});

async function shown() {
  const host: Host = {
    kind: "comm",
    waiting: signal(false),
    listen: () => () => {},
    async call<T>(method: string, params: any = {}): Promise<Answer<T>> {
      calls.push([method, params]);
      if (method === "page" && params.query.search === "(") throw new Refused("BadInput", "( is no regular expression");
      if (method === "page") return page(params.start, params.query.search ? 1 : 300);
      if (method === "cell") return { data: { ...DETAIL, cell: params.cell } as T, buffers: [] };
      if (method === "select") return { data: { selected: params.cells } as T, buffers: [] };
      if (method === "summary") return { data: { figures: null, verdict: { outcome: "", text: "No verdict: one prompt." }, cells: 300, version: 1 } as T, buffers: [] };
      const first = page(0);
      const opened = { ...standing, name: "demo", variants: [["p", "m"]], scorers: [{ name: "exact", higher: true, bounds: null }], columns: [], repeats: 1, selected: [], layout: "cells" };
      return { data: { ...opened, page: first.data } as T, buffers: first.buffers };
    },
  };
  element = document.createElement("div");
  document.body.append(element);
  leave = mount(element, GridView, host);
  await vi.waitFor(() => expect(element.querySelectorAll(".llg-row").length).toBeGreaterThan(5));
}

afterEach(() => {
  standing = STANDING;
  leave();
  element.remove();
});

const grid = () => element.querySelector<HTMLElement>("[role=grid]")!;
const press = (key: string, options: KeyboardEventInit = {}) => grid().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...options }));

test("only the lines in sight are in the page, all of them are counted, and markup stays text", async () => {
  expect(grid().getAttribute("aria-rowcount")).toBe("301");
  expect(element.querySelectorAll(".llg-row").length).toBeLessThan(60);
  await vi.waitFor(() => expect(element.textContent).toContain("<b>question 0</b>"));
  expect(element.querySelector(".llg-row b")).toBeNull();
});

test("keys move, select and open, and none of them leaves the view", async () => {
  const outside = vi.fn();
  document.body.addEventListener("keydown", outside);
  press("ArrowDown");
  press("ArrowDown");
  press(" ");
  await vi.waitFor(() => expect(calls.at(-1)).toEqual(["select", { cells: [2] }]));
  press("a", { ctrlKey: true });
  press("b");
  press("Enter");
  await vi.waitFor(() => expect(calls.some(([method, params]) => method === "cell" && params.cell === 2)).toBe(true));
  expect(outside).not.toHaveBeenCalled();
  document.body.removeEventListener("keydown", outside);
});

test("a search that is refused says why, and what was shown stays", async () => {
  const box = element.querySelector<HTMLInputElement>("input[type=search]")!;
  box.value = "(";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await vi.waitFor(() => expect(element.querySelector("[role=alert]")?.textContent).toContain("no regular expression"));
  expect(element.textContent).toContain("reply 0");
  box.value = "one";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await vi.waitFor(() => expect(element.querySelector(".llg-count")?.textContent).toBe("1 of 300 cells"));
  expect(element.querySelector("[role=alert]")).toBeNull();
});

test("what is missing is said to be missing", () => {
  const cell: Cell = { cell: 0, variant: 0, status: "open", text: null, finish: "", error: "", kept: true, numbers: [], scores: [] };
  expect([reply(cell, "running"), reply(cell, "done"), reply({ ...cell, text: "" }, "done")]).toEqual(["…", "not asked", "(empty reply)"]);
  expect(reply({ ...cell, status: "failed", error: "timeout" }, "done")).toBe("failed: timeout");
  expect([number(null), number(0), seconds(0.0001)]).toEqual(["–", "0", "<0.001"]);
});

test("a score that may still come is not called unscored, and cells that nobody asked are counted when the grid has ended", async () => {
  await vi.waitFor(() => expect(element.querySelector(".llg-row")!.textContent).toContain("unscored"));
  for (const [state, said] of [["running", "200 of 300 answered"], ["cancelled", "200 of 300 answered · 40 failed · 60 not asked"]] as const) {
    leave();
    element.remove();
    standing = { ...STANDING, state, counts: { ok: 200, failed: 40, open: 60 } };
    await shown();
    await vi.waitFor(() => expect(element.querySelector(".llg-title")!.textContent).toContain(said));
    await vi.waitFor(() => expect(element.querySelector(".llg-row")!.textContent).toContain("reply 0"));
    expect(element.querySelector(".llg-row")!.textContent!.includes("unscored")).toBe(state !== "running");
  }
});

/** A store whose calls are answered one by one, when and in the order that a test wants. */
async function held() {
  const out: { method: string; params: any; answer: (data: any) => void; fail: (error: Error) => void }[] = [];
  let push: (event: any) => void = () => {};
  const host: Host = {
    kind: "comm",
    waiting: signal(false),
    listen: (on) => ((push = on), () => {}),
    call: (method, params: any = {}) => new Promise((resolve, fail) => out.push({ method, params, answer: (data) => resolve("buffers" in data ? data : { data, buffers: [] }), fail })),
  };
  const store = new Store(host);
  void store.begin();
  const first = page(0);
  out.shift()!.answer({ data: { ...STANDING, name: "demo", variants: [["p", "m"]], scorers: [{ name: "exact", higher: true, bounds: null }], columns: [], repeats: 1, selected: [7], layout: "cells", page: first.data }, buffers: first.buffers });
  await vi.waitFor(() => expect(out.map(({ method }) => method)).toEqual(["summary"]));
  out.shift()!.answer({ figures: null, verdict: { outcome: "", text: "none" }, cells: 300, version: 1 });
  const take = async (method: string, wanted: object = {}) => {
    const fits = (each: (typeof out)[number]) => each.method === method && Object.entries(wanted).every(([name, value]) => each.params[name] === value);
    await vi.waitFor(() => expect(out.some(fits)).toBe(true));
    return out.splice(out.findIndex(fits), 1)[0]!;
  };
  return { store, out, take, push: (event: object) => push({ ...STANDING, ...event }) };
}

test("lines that are in sight come also when the order is another one", async () => {
  const { store, take } = await held();
  store.see(200, 215);
  (await take("page", { start: 120 })).answer(page(120));
  await vi.waitFor(() => expect(store.line(200)).toBeDefined());
  void store.look({ sort: "exact" });
  (await take("page", { start: 0 })).answer(page(0));
  expect((await take("page", { start: 120 })).params.query.sort).toBe("exact");
});

test("while another order is on its way its lines are not mixed with those that stand there, and a refusal leads back to what is shown", async () => {
  const { store, out, take } = await held();
  const slow = store.look({ search: "slow" });
  const one = await take("page");
  store.see(130, 140);
  expect(out.filter(({ method }) => method === "page")).toEqual([]);
  const second = store.look({ search: "(" });
  (await take("page")).fail(new Refused("BadInput", "( is no regular expression"));
  one.answer(page(0, 5));
  await Promise.all([slow, second]);
  expect([store.query.value.search, store.count.value.lines]).toEqual(["", 300]);
  expect((await take("page")).params).toMatchObject({ start: 120, query: { search: "" } });
});

test("a page that was looked up before the last news is asked for again", async () => {
  const { store, take, push } = await held();
  store.see(130, 140);
  const early = await take("page", { start: 120 });
  push({ version: 2 });
  early.answer(page(120, 300, 1));
  await take("page", { start: 120 });
});

test("an open cell is read again when the grid has news", async () => {
  const { store, take, push } = await held();
  void store.open(3);
  (await take("cell")).answer({ cell: 3, text: "first" });
  await vi.waitFor(() => expect(store.detail.value?.data?.text).toBe("first"));
  push({ version: 2 });
  (await take("cell")).answer({ cell: 3, text: "second" });
  await vi.waitFor(() => expect(store.detail.value?.data?.text).toBe("second"));
});

test("what is marked as selected is what Python has, whatever fails or comes late", async () => {
  const { store, take } = await held();
  void store.select([1]);
  (await take("select")).fail(new Unreachable("no answer from the kernel in 60 s."));
  await vi.waitFor(() => expect([...store.selection.value]).toEqual([7]));
  expect(store.problem.value).toBe("Nothing came back: no answer from the kernel in 60 s.");
  void store.selectAll();
  const late = await take("select");
  void store.select([2]);
  (await take("select")).answer({ selected: [2] });
  late.answer({ selected: [1, 2, 3] });
  await vi.waitFor(() => expect([...store.selection.value]).toEqual([2]));
});

test("figures that could not be had are not left standing for others, and are asked for again", async () => {
  const { store, take, push } = await held();
  await vi.waitFor(() => expect(store.summary.value).not.toBeNull());
  store.scorer.value = "other";
  store.figure();
  (await take("summary")).fail(new Unreachable("gone"));
  await vi.waitFor(() => expect(store.summary.value).toBeNull());
  push({ version: 2 });
  await take("summary");
});

test("a button that has the focus and goes away leaves it to the table, not to the notebook", async () => {
  press(" ");
  await vi.waitFor(() => expect(element.querySelector(".llg-selected button")).not.toBeNull());
  const clear = element.querySelector<HTMLElement>(".llg-selected button")!;
  clear.focus();
  clear.click();
  await vi.waitFor(() => expect(element.querySelector(".llg-selected")).toBeNull());
  await vi.waitFor(() => expect(document.activeElement).toBe(grid()));
});

test("two clicks ask once for what is paid for", async () => {
  press("Enter");
  await vi.waitFor(() => expect(element.querySelector(".llg-detail .llg-deeds button")).not.toBeNull());
  const again = element.querySelector<HTMLElement>(".llg-detail .llg-deeds button")!;
  again.click();
  again.click();
  await vi.waitFor(() => expect(calls.some(([method]) => method === "again")).toBe(true));
  expect(calls.filter(([method]) => method === "again").length).toBe(1);
});

test("a page that cannot be had is not asked for again and again, but when the reader moves on", async () => {
  let refused = 0;
  const host: Host = {
    kind: "comm",
    waiting: signal(false),
    listen: () => () => {},
    async call<T>(method: string, params: any = {}): Promise<Answer<T>> {
      if (method === "page" && params.start > 0 && ++refused < 100) throw new Unreachable("the kernel has ended.");
      const first = page(method === "page" ? params.start : 0);
      const opened = { ...STANDING, name: "demo", variants: [["p", "m"]], scorers: [{ name: "exact", higher: true, bounds: null }], columns: [], repeats: 1, selected: [], layout: "cells" };
      return { data: (method === "page" ? first.data : { ...opened, page: first.data }) as T, buffers: first.buffers };
    },
  };
  const store = new Store(host);
  await store.begin();
  store.see(130, 150);
  await vi.waitFor(() => expect(store.problem.value).toContain("the kernel has ended"));
  await new Promise((done) => setTimeout(done, 20));
  expect(refused).toBeLessThan(5);
  const before = refused;
  store.see(131, 151);
  await vi.waitFor(() => expect(refused).toBeGreaterThan(before));
  store.end();
});
