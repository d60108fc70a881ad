/** A queue of the tests: what Python does with submit, undo, next and task, and a line that can be cut. */

import { signal } from "@preact/signals";
import { type Answer, type Host, Refused, Unreachable } from "../kit/host";
import type { Mine, Mode, Opened, Side, State, Task, Value } from "./wire";

interface Row {
  row: number;
  id: string;
  item: string;
  kind: "submit" | "undo";
  mine: Mine | null;
}

export class Double implements Host {
  readonly kind = "rest" as const;
  readonly waiting = signal(false);
  readonly rows: Row[] = [];
  readonly asked: string[] = [];
  /** "cut": no answer; "lost": it is carried out, and the answer is lost; "slow": it never comes. */
  line: "fine" | "cut" | "lost" | "slow" = "fine";
  refusal: Refused | null = null;

  constructor(
    readonly names: string[],
    private readonly own: Partial<Opened> = {},
    private readonly sides: Side[] = [{ side: "A", text: "the answer", images: [] }],
    private readonly order = "a",
  ) {}

  listen(): () => void {
    return () => {};
  }

  async call<T>(method: string, params: any = {}): Promise<Answer<T>> {
    this.asked.push(method);
    if (this.line === "slow") return new Promise(() => {});
    if (this.line === "cut") throw new Unreachable("the line is cut.");
    const data = (this as any)[`on_${method}`](params);
    if (this.line === "lost" && (method === "submit" || method === "undo")) throw new Unreachable("the answer was lost.");
    return { data: data as T, buffers: [] };
  }

  mine(item: string): Mine | null {
    return this.rows.filter((row) => row.item === item).at(-1)?.mine ?? null;
  }

  private items(): [string, State][] {
    return this.names.map((item) => {
      const mine = this.mine(item);
      return [item, mine === null ? "open" : mine.skip !== null ? "skipped" : "rated"];
    });
  }

  private task(item: string): Task {
    return {
      item,
      position: this.names.indexOf(item) + 1,
      total: this.names.length,
      prompt: `what is ${item}?`,
      images: [],
      sources: [],
      sides: this.sides,
      side_order: this.order,
      mine: this.mine(item),
      suggestion: null,
    };
  }

  private about(item: string | undefined) {
    const states = this.items();
    const count = (wanted: State) => states.filter(([, state]) => state === wanted).length;
    return {
      task: item === undefined ? null : this.task(item),
      progress: { done: count("rated"), skipped: count("skipped"), total: states.length, closed: false },
    };
  }

  on_open(): Opened {
    return {
      queue: "q1",
      name: "tone",
      rater: "ann",
      mode: "single" as Mode,
      question: "How kind is it?",
      levels: [1, 2, 3].map((value) => ({ value, text: `level ${value}` })),
      guide: "",
      examples: [],
      owner: false,
      again: "lab.queue('tone').show()",
      items: this.items(),
      ...this.on_next({}),
      ...this.own,
    };
  }

  on_next({ after = null }: { after?: string | null }) {
    const names = this.items().filter(([item, state]) => state === "open" && item !== after);
    const at = this.names.indexOf(after ?? "");
    const behind = names.find(([item]) => this.names.indexOf(item) > at) ?? names[0];
    return this.about(behind?.[0]);
  }

  on_task({ item }: { item: string }) {
    return this.about(item);
  }

  on_submit(params: { id: string; item: string; expects: number; value: Value } & Mine) {
    const { value, comment, flag, skip, correction } = params;
    return this.add("submit", params, { row: 0, value, comment, flag, skip, correction, saved_at: "" });
  }

  on_undo(params: { id: string; item: string; expects: number }) {
    return this.add("undo", params, null);
  }

  private add(kind: Row["kind"], { id, item, expects }: { id: string; item: string; expects: number }, mine: Mine | null) {
    const saved_at = "2026-11-22T10:32:00+00:00";
    const same = this.rows.find((row) => row.id === id);
    if (same) return { row: same.row, saved_at };
    if (this.refusal) throw this.refusal;
    const head = this.rows.filter((row) => row.item === item).at(-1);
    if (expects !== (head?.row ?? 0) && !(expects === 0 && !head?.mine)) throw new Refused("Conflict", "rated elsewhere in between.");
    const row = this.rows.length + 1;
    this.rows.push({ row, id, item, kind, mine: mine && { ...mine, row, saved_at } });
    return { row, saved_at };
  }
}

export const soon = (ms = 0): Promise<void> => new Promise((done) => setTimeout(done, ms));
