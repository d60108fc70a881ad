import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Refused } from "../kit/host";
import { Double, soon } from "./double";
import { LATE_MS, Session, SETTLE_MS } from "./session";

let now = 1_000_000;
const open: Session[] = [];

async function begin(host: Double): Promise<Session> {
  const session = new Session(host, () => now);
  open.push(session);
  await session.start();
  now += SETTLE_MS;
  return session;
}

async function given(session: Session, value: number): Promise<void> {
  session.answer(value);
  await soon();
  now += SETTLE_MS;
}

const kept = () => Object.keys(localStorage).filter((name) => name.startsWith("llmops-lab/outbox/"));

beforeEach(() => localStorage.clear());
afterEach(() => open.splice(0).forEach((session) => session.stop()));

test("an answer is saved when the other side has said its row, and then the next item is shown", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  session.answer(3);
  expect(session.status.value.kind).toBe("saving");
  expect(kept().length).toBe(1);
  await soon();
  expect(session.status.value).toMatchObject({ kind: "saved", last: { row: 1, item: "x" } });
  expect([session.task.value?.item, session.progress.value.done, kept().length]).toEqual(["y", 1, 0]);
});

test("without a line it is NOT SAVED, is kept, and goes once there is one, under the same id", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.line = "cut";
  await given(session, 2);
  expect(session.status.value).toMatchObject({ kind: "not-saved", count: 1, why: "the line is cut.", lost: true });
  expect([session.task.value?.item, host.rows.length, kept().length]).toEqual(["x", 0, 1]);
  host.line = "fine";
  await session.flush();
  expect(session.status.value.kind).toBe("saved");
  expect([host.rows.length, kept().length]).toEqual([1, 0]);
});

test("an answer whose reply was lost is stored once", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.line = "lost";
  await given(session, 2);
  expect([session.status.value.kind, host.rows.length]).toEqual(["not-saved", 1]);
  host.line = "fine";
  await session.flush();
  expect([session.status.value.kind, host.rows.length, session.last.value?.row]).toEqual(["saved", 1, 1]);
});

test("what is still out after a second is called NOT SAVED", async () => {
  const host = new Double(["x"]);
  const session = await begin(host);
  host.line = "slow";
  session.answer(1);
  expect(session.status.value.kind).toBe("saving");
  now += LATE_MS;
  await soon(LATE_MS + 20);
  expect(session.status.value).toMatchObject({ kind: "not-saved", count: 1 });
});

test("a page that is opened later sends what an earlier one could not, and shows the next item", async () => {
  const host = new Double(["x", "y"]);
  const first = await begin(host);
  host.line = "cut";
  await given(first, 2);
  first.stop();
  host.line = "fine";
  const second = await begin(host);
  await soon(10);
  expect([second.status.value.kind, host.rows.length, second.task.value?.item]).toEqual(["saved", 1, "y"]);
});

test("the same answer twice is one, and a second click does not hit the next item", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  session.answer(3);
  session.answer(3);
  await soon();
  session.answer(3);
  await soon();
  expect([host.rows.length, session.task.value?.item]).toEqual([1, "y"]);
  expect(session.hint.value).toContain("only just appeared");
});

test("answers that follow each other are stored in order, each naming the row that it replaces", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.line = "cut";
  await given(session, 1);
  await given(session, 2);
  await session.undo();
  await soon();
  expect(session.status.value).toMatchObject({ kind: "not-saved", count: 3 });
  host.line = "fine";
  await session.flush();
  expect(host.rows.map((row) => [row.kind, row.mine?.value ?? null])).toEqual([["submit", 1], ["submit", 2], ["undo", null]]);
  expect([kept().length, session.task.value?.mine?.value]).toEqual([0, null]);
});

test("undo takes the last answer back, and the item can be rated anew", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  await given(session, 3);
  await session.undo();
  await soon();
  expect([session.task.value?.item, session.last.value?.what]).toEqual(["x", "taken back"]);
  now += SETTLE_MS;
  await given(session, 1);
  expect(host.rows.map((row) => [row.kind, row.item])).toEqual([["submit", "x"], ["undo", "x"], ["submit", "x"]]);
  expect(session.progress.value.done).toBe(1);
});

test("what another window saved is not overwritten without asking", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.on_submit({ id: "other-window", item: "x", expects: 0, value: 1 } as any);
  await given(session, 3);
  expect(session.status.value).toMatchObject({ kind: "not-saved", count: 1 });
  expect(session.conflict.value).toMatchObject({ mine: { row: 1, value: 1 } });
  expect(host.rows.length).toBe(1);
  session.answer(2);
  expect(session.hint.value).toContain("which of the two");
  session.keepMine();
  await soon();
  expect([host.mine("x")?.value, session.status.value.kind, host.rows.length]).toEqual([3, "saved", 2]);
});

test("a question that was not answered before a reload is asked again", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.on_submit({ id: "other-window", item: "x", expects: 0, value: 1 } as any);
  await given(session, 3);
  session.stop();
  const again = await begin(host);
  await soon();
  expect(again.conflict.value).toMatchObject({ mine: { row: 1, value: 1 }, entries: [{ value: 3 }] });
  again.keepMine();
  await soon();
  expect([host.mine("x")?.value, kept().length]).toEqual([3, 0]);
});

test("a question that was answered in another window is asked no more", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.on_submit({ id: "other-window", item: "x", expects: 0, value: 1 } as any);
  await given(session, 3);
  const other = await begin(host);
  await vi.waitFor(() => expect(other.conflict.value).not.toBeNull());
  await session.keepTheirs();
  await vi.waitFor(() => expect(other.conflict.value).toBeNull());
});

test("what is written while the answer is on its way is kept as a draft, and a closed queue takes nothing back", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  session.answer(3);
  session.setNotes({ comment: "one more word" });
  await soon();
  expect([session.task.value?.item, host.mine("x")?.comment]).toEqual(["y", null]);
  await session.go("x");
  expect(session.notes.value.comment).toBe("one more word");
  session.progress.value = { ...session.progress.value, closed: true };
  await session.undo();
  expect(session.hint.value).toContain("closed");
  expect(host.rows.length).toBe(1);
});

test("keeping what the other window saved gives one's own up", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.on_submit({ id: "other-window", item: "x", expects: 0, value: 1 } as any);
  await given(session, 3);
  await session.keepTheirs();
  expect([host.mine("x")?.value, kept().length, session.task.value?.mine?.value]).toEqual([1, 0, 1]);
});

test("what is refused stays NOT SAVED, with the reason, and does not hold up the others", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.refusal = new Refused("BadInput", "this queue is closed.");
  await given(session, 3);
  expect(session.status.value).toMatchObject({ kind: "not-saved", count: 1, why: "this queue is closed.", lost: false });
  host.refusal = null;
  await session.go("y");
  now += SETTLE_MS;
  await given(session, 2);
  expect(host.rows.map((row) => row.item).sort()).toEqual(["x", "y"]);
});

test("what is not saved can be taken along as a file", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  host.line = "cut";
  session.setNotes({ comment: "dry" });
  await given(session, 2);
  await given(session, 3);
  const lines = session.lines().split("\n").map((line) => JSON.parse(line));
  expect(lines).toMatchObject([
    { queue: "tone", rater: "ann", item: "x", value: 2, comment: "dry", undo: false, expects: 0 },
    { item: "x", value: 3, expects: null },
  ]);
});

test("a comment is a draft until the item is rated, outlives a reload, and changes a rating by a row of its own", async () => {
  const host = new Double(["x", "y"]);
  const first = await begin(host);
  first.setNotes({ comment: "dry" });
  first.saveNotes();
  expect(host.rows.length).toBe(0);
  first.stop();
  const session = await begin(host);
  expect(session.notes.value.comment).toBe("dry");
  await given(session, 2);
  expect(host.mine("x")).toMatchObject({ value: 2, comment: "dry", flag: false });
  await session.go("x");
  session.flag();
  await soon();
  expect(host.mine("x")).toMatchObject({ value: 2, comment: "dry", flag: true, row: 2 });
  expect(session.task.value?.item).toBe("x");
});

test("a skip has its reason", async () => {
  const host = new Double(["x", "y"]);
  const session = await begin(host);
  session.skip("not my language");
  await soon();
  expect(host.mine("x")).toMatchObject({ value: null, skip: "not my language" });
  expect(session.progress.value).toMatchObject({ done: 0, skipped: 1 });
});

test("two panels of one rater do not send twice, and both learn what is saved", async () => {
  const host = new Double(["x", "y"]);
  const one = await begin(host);
  const other = await begin(host);
  host.line = "cut";
  await given(one, 2);
  await soon(20);
  expect([other.entries.value.length, other.status.value.kind]).toEqual([1, "saving"]); // its own call was not the one that failed
  host.line = "fine";
  await other.flush();
  await soon(20);
  expect(host.rows.length).toBe(1);
  expect([one.status.value.kind, one.last.value?.row, one.task.value?.item]).toEqual(["saved", 1, "y"]);
});

test("where the browser keeps nothing, that is said, and answers live as long as the page", async () => {
  const full = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  vi.stubGlobal("localStorage", { length: 0, key: () => null, getItem: () => null, setItem: full, removeItem: full });
  try {
    const host = new Double(["x", "y"]);
    const session = await begin(host);
    host.line = "cut";
    await given(session, 2);
    expect([session.lasting.value, session.status.value.kind]).toEqual([false, "not-saved"]);
    host.line = "fine";
    await session.flush();
    expect([host.rows.length, session.status.value.kind]).toEqual([1, "saved"]);
  } finally {
    vi.unstubAllGlobals();
  }
});
