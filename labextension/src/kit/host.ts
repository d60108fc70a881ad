// What a view asks for is answered by a host: a kernel (comm), the Jupyter server (rest) or the page itself (embedded).
import { signal, type ReadonlySignal, type Signal } from "@preact/signals";

export interface Answer<T> {
  data: T;
  buffers: DataView[];
}

export interface Host {
  readonly kind: "comm" | "rest" | "embedded";
  /** Rejects with Refused (the other side said no) or Unreachable (no answer). `timeout` is in milliseconds. */
  call<T>(method: string, params?: object, options?: { timeout?: number }): Promise<Answer<T>>;
  /** Live events; returns how to stop. */
  listen(on: (event: any) => void): () => void;
  /** A call has been out for more than a second. */
  readonly waiting: ReadonlySignal<boolean>;
}

/** The other side said no; the message is a LabError's text, made for people. */
export class Refused extends Error {
  constructor(
    readonly type: string,
    message: string,
  ) {
    super(message);
    this.name = "Refused";
  }
}

/** No answer in time, the kernel is dead, the server is gone. Whether the call was carried out is not known. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** What is said of a call that failed. Only of a refusal is it known that nothing was done. */
export function told(error: unknown): string {
  if (error instanceof Refused) return error.message;
  return `Nothing came back: ${error instanceof Error ? error.message : String(error)}`;
}

const PATIENCE = 1000;

/** Counts the calls that have been out for longer than a second. */
export class Waiting {
  private slow = 0;
  readonly signal: Signal<boolean> = signal(false);

  /** Returns what must be called when the answer is there. */
  begin(): () => void {
    let counted = false;
    const timer = setTimeout(() => {
      counted = true;
      this.change(1);
    }, PATIENCE);
    return () => {
      clearTimeout(timer);
      if (counted) this.change(-1);
      counted = false;
    };
  }

  private change(by: number): void {
    this.slow += by;
    this.signal.value = this.slow > 0;
  }
}
