// The host of a view in a notebook: custom messages over the widget's comm. No data is kept in the widget's synced state.
import { signal, type ReadonlySignal } from "@preact/signals";
import { type Answer, type Host, Refused, Unreachable, Waiting } from "./host";

/** The part of anywidget's model that is used here. */
export interface Model {
  send(content: unknown): void;
  on(event: string, callback: (...given: any[]) => void): void;
  off(event: string, callback: (...given: any[]) => void): void;
  widget_manager?: unknown;
}

type StatusSlot = (kernel: unknown, status: string) => void;
interface Kernel {
  statusChanged: { connect(slot: StatusSlot): void; disconnect(slot: StatusSlot): void };
}

interface Reply {
  id?: number;
  ok?: boolean;
  data?: any;
  error?: { type: string; message: string };
  threaded?: boolean;
  event?: unknown;
}

interface Call {
  settle(reply: Reply, buffers: DataView[]): void;
  fail(error: Error): void;
}

export const ENDED = "the kernel of this view has ended. Run its cell again.";
const CLOSED = "this view was closed.";
const THREADED_TIMEOUT = 60_000;
const [FIRST_COPY, LAST_COPY] = [1000, 30_000];

export interface CommHost extends Host {
  readonly kind: "comm";
  /** null until the first answer; false: this kernel answers only between cells. */
  threaded(): boolean | null;
  /** The kernel is gone: nothing that is shown is live, and every call fails. */
  readonly ended: ReadonlySignal<boolean>;
  close(): void;
}

export function commHost(model: Model): CommHost {
  const waiting = new Waiting();
  const calls = new Map<number, Call>();
  const listeners = new Set<(event: any) => void>();
  // Every page that shows this kernel gets every answer, so the numbers of two pages must differ. They are numbers and not strings because
  // ipykernel remembers each string "id" that it sends, for ever.
  let last = Math.floor(Math.random() * 2 ** 40) * 1024;
  let threaded: boolean | null = null;
  const ended = signal(false);
  let closed = false;

  const received = (reply: Reply, buffers: DataView[] = []) => {
    if (reply.event !== undefined) for (const on of [...listeners]) on(reply.event);
    if (reply.id === undefined) return;
    if (reply.threaded !== undefined) threaded = reply.threaded;
    calls.get(reply.id)?.settle(reply, buffers);
  };
  const end = () => {
    ended.value = true;
    for (const call of [...calls.values()]) call.fail(new Unreachable(ENDED));
  };
  // Whatever way a kernel ends, its comms never live again. JupyterLab's own object tells more of those ways than the model's events do.
  const kernel = (model.widget_manager as { kernel?: Kernel } | undefined)?.kernel;
  const status: StatusSlot = (_, now) => {
    if (["restarting", "autorestarting", "terminating", "dead"].includes(now)) end();
  };
  kernel?.statusChanged?.connect(status);
  model.on("msg:custom", received);
  model.on("comm:close", end);
  model.on("comm_live_update", end);

  function call<T>(method: string, params: object = {}, options: { timeout?: number } = {}): Promise<Answer<T>> {
    if (ended.value) return Promise.reject(new Unreachable(ENDED));
    if (closed) return Promise.reject(new Unreachable(CLOSED));
    return new Promise((resolve, reject) => {
      const id = ++last;
      const done = waiting.begin();
      // A kernel without threads answers when its cell has ended, however long that takes.
      const limit = options.timeout ?? (threaded ? THREADED_TIMEOUT : undefined);
      const finish = () => {
        clearTimeout(timer);
        clearTimeout(copy);
        calls.delete(id);
        done();
      };
      const timer = limit === undefined ? undefined : setTimeout(() => entry.fail(new Unreachable(`no answer from the kernel in ${limit / 1000} s.`)), limit);
      const entry: Call = {
        settle(reply, buffers) {
          finish();
          if (reply.ok) resolve({ data: reply.data as T, buffers });
          else reject(new Refused(reply.error?.type ?? "Error", reply.error?.message ?? "the kernel gave no reason."));
        },
        fail(error) {
          finish();
          reject(error);
        },
      };
      calls.set(id, entry);
      // JupyterLab asks the kernel for a subshell when it first hears of a widget. What is sent before it has one waits behind the cell that
      // runs. So copies follow until something was answered from a thread; the kernel answers each number once.
      let copy: ReturnType<typeof setTimeout> | undefined;
      const send = (again: number) => {
        try {
          model.send({ id, method, params });
        } catch (error) {
          return entry.fail(new Unreachable(`the kernel cannot be reached: ${error instanceof Error ? error.message : String(error)}`));
        }
        if (!threaded) copy = setTimeout(() => send(Math.min(2 * again, LAST_COPY)), again);
      };
      send(FIRST_COPY);
    });
  }

  return {
    kind: "comm",
    call,
    listen(on) {
      listeners.add(on);
      return () => listeners.delete(on);
    },
    waiting: waiting.signal,
    threaded: () => threaded,
    ended,
    close() {
      closed = true;
      kernel?.statusChanged?.disconnect(status);
      model.off("msg:custom", received);
      model.off("comm:close", end);
      model.off("comm_live_update", end);
      for (const open of [...calls.values()]) open.fail(new Unreachable(CLOSED));
    },
  };
}
