import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { commHost, type Model } from "./comm";
import { Refused, Unreachable } from "./host";

/** A kernel's end of the comm, as far as a page can see it. */
class Kernel implements Model {
  sent: any[] = [];
  private on_ = new Map<string, Set<(...given: any[]) => void>>();
  broken = false;

  send(content: unknown) {
    if (this.broken) throw new Error("Kernel is dead");
    this.sent.push(content);
  }
  on(event: string, callback: (...given: any[]) => void) {
    this.on_.set(event, (this.on_.get(event) ?? new Set()).add(callback));
  }
  off(event: string, callback: (...given: any[]) => void) {
    this.on_.get(event)?.delete(callback);
  }
  tell(event: string, ...given: any[]) {
    for (const callback of [...(this.on_.get(event) ?? [])]) callback(...given);
  }
  answer(message: object, buffers: DataView[] = []) {
    this.tell("msg:custom", { id: this.sent.at(-1).id, ...message }, buffers);
  }
  get listeners() {
    return [...this.on_.values()].reduce((sum, each) => sum + each.size, 0);
  }
}

let kernel: Kernel;
beforeEach(() => {
  vi.useFakeTimers();
  kernel = new Kernel();
});
afterEach(() => vi.useRealTimers());

test("a call goes out and its answer comes back, with bytes", async () => {
  const host = commHost(kernel);
  const asked = host.call("page", { start: 3 });
  expect(kernel.sent).toEqual([{ id: expect.any(Number), method: "page", params: { start: 3 } }]);
  kernel.answer({ ok: true, data: { rows: 7 } }, [new DataView(new ArrayBuffer(4))]);
  const answer = await asked;
  expect(answer.data).toEqual({ rows: 7 });
  expect(answer.buffers.map((each) => each.byteLength)).toEqual([4]);
});

test("answers find their calls in any order; those of other pages are passed over", async () => {
  const host = commHost(kernel);
  const first = host.call("a");
  const second = host.call("b");
  const [a, b] = kernel.sent.map((each) => each.id as number);
  expect(a).not.toBe(b);
  kernel.tell("msg:custom", { id: 1, ok: true, data: "another page's" }, []);
  kernel.tell("msg:custom", { id: b, ok: true, data: "b" }, []);
  kernel.tell("msg:custom", { id: a, ok: true, data: "a" }, []);
  expect([(await first).data, (await second).data]).toEqual(["a", "b"]);
});

test("a no of the other side is its error's name and text", async () => {
  const asked = commHost(kernel).call("page").catch((error) => error);
  kernel.answer({ ok: false, error: { type: "BadInput", message: "no row 9." } });
  const error = await asked;
  expect(error).toBeInstanceOf(Refused);
  expect([error.type, error.message]).toEqual(["BadInput", "no row 9."]);
});

test("no answer within the limit is said to be none; a late one changes nothing", async () => {
  const asked = commHost(kernel).call("submit", {}, { timeout: 5000 }).catch((error) => error);
  vi.advanceTimersByTime(5000);
  expect(await asked).toBeInstanceOf(Unreachable);
  kernel.answer({ ok: true, data: {} });
});

test("a kernel that answers between cells only is waited for; one with threads has a minute", async () => {
  const host = commHost(kernel);
  expect(host.threaded()).toBeNull();
  const patient = host.call("page");
  vi.advanceTimersByTime(3_600_000);
  kernel.answer({ ok: true, data: 1, threaded: false });
  expect((await patient).data).toBe(1);
  expect(host.threaded()).toBe(false);
  const first = host.call("page");
  kernel.answer({ ok: true, data: 2, threaded: true });
  await first;
  const hurried = host.call("page").catch((error) => error);
  vi.advanceTimersByTime(60_000);
  expect(await hurried).toBeInstanceOf(Unreachable);
});

test("a call is sent again until the kernel has answered from a thread: the first may lie behind a cell", async () => {
  const host = commHost(kernel);
  const asked = host.call("state", { row: 1 });
  vi.advanceTimersByTime(999);
  expect(kernel.sent).toHaveLength(1);
  vi.advanceTimersByTime(1 + 2000 + 4000);
  expect(kernel.sent).toHaveLength(4);
  for (const each of kernel.sent) expect(each).toEqual(kernel.sent[0]);
  kernel.answer({ ok: true, data: 1, threaded: true });
  await asked;
  const later = host.call("state");
  vi.advanceTimersByTime(59_999);
  expect(kernel.sent).toHaveLength(5);
  kernel.answer({ ok: true, data: 2, threaded: true });
  await later;
});

test("a call that has its answer, was given up or cannot be sent is not sent again", async () => {
  const host = commHost(kernel);
  const asked = host.call("a");
  kernel.answer({ ok: true, data: 1, threaded: false });
  await asked;
  const given = host.call("b", {}, { timeout: 1500 }).catch((error) => error);
  vi.advanceTimersByTime(1500);
  expect(await given).toBeInstanceOf(Unreachable);
  const cut = host.call("c").catch((error) => error);
  kernel.broken = true;
  vi.advanceTimersByTime(1000);
  expect(await cut).toBeInstanceOf(Unreachable);
  kernel.broken = false;
  vi.advanceTimersByTime(3_600_000);
  expect(kernel.sent.map((each) => each.method)).toEqual(["a", "b", "b", "c"]);
});

test("after a second the view may say that it waits, until the last slow answer", async () => {
  const host = commHost(kernel);
  const [first, second] = [host.call("a"), host.call("b")];
  vi.advanceTimersByTime(999);
  expect(host.waiting.value).toBe(false);
  vi.advanceTimersByTime(1);
  expect(host.waiting.value).toBe(true);
  kernel.tell("msg:custom", { id: kernel.sent[0].id, ok: true, data: 0 }, []);
  await first;
  expect(host.waiting.value).toBe(true);
  kernel.tell("msg:custom", { id: kernel.sent[1].id, ok: true, data: 0 }, []);
  await second;
  expect(host.waiting.value).toBe(false);
});

test.each(["comm:close", "comm_live_update"])("a kernel that ends (%s) fails what is out, and what is asked later", async (event) => {
  const host = commHost(kernel);
  const out = host.call("submit").catch((error) => error);
  kernel.tell(event);
  expect(await out).toBeInstanceOf(Unreachable);
  await expect(host.call("submit")).rejects.toBeInstanceOf(Unreachable);
  expect(kernel.sent).toHaveLength(1);
});

test("a kernel that JupyterLab starts anew after a crash has ended for its views", async () => {
  const slots = new Set<(kernel: unknown, status: string) => void>();
  const statusChanged = { connect: (slot: never) => slots.add(slot), disconnect: (slot: never) => slots.delete(slot) };
  const host = commHost(Object.assign(kernel, { widget_manager: { kernel: { statusChanged } } }));
  for (const slot of slots) slot(null, "busy");
  expect(host.ended.value).toBe(false);
  const out = host.call("submit").catch((error) => error);
  for (const slot of slots) slot(null, "autorestarting");
  expect(await out).toBeInstanceOf(Unreachable);
  expect(host.ended.value).toBe(true);
  host.close();
  expect(slots.size).toBe(0);
});

test("a message that cannot be sent fails at once", async () => {
  kernel.broken = true;
  await expect(commHost(kernel).call("submit")).rejects.toThrow("Kernel is dead");
});

test("events reach whoever listens, and nobody after the view has gone", () => {
  const host = commHost(kernel);
  const seen: any[] = [];
  const stop = host.listen((event) => seen.push(event));
  kernel.tell("msg:custom", { event: { done: 3 } });
  stop();
  kernel.tell("msg:custom", { event: { done: 4 } });
  expect(seen).toEqual([{ done: 3 }]);
  host.close();
  expect(kernel.listeners).toBe(0);
});

test("a view that has gone asks nothing more", async () => {
  const host = commHost(kernel);
  host.close();
  await expect(host.call("submit")).rejects.toThrow("this view was closed.");
});
