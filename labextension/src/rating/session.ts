/** What one rater does with one queue: which item is shown, what was answered, and what of it is known to be in the ledger. */

import { computed, signal } from "@preact/signals";
import { type Host, Refused } from "../kit/host";
import { Clock } from "./clock";
import { Drafts, type Notes, notesOf, sameNotes } from "./drafts";
import { alone, asLines, type Entry, type News, Outbox } from "./outbox";
import type { Mine, Next, Opened, Progress, Saved, State, Task, Value } from "./wire";

/** An answer that is still out after this long is called NOT SAVED. */
export const LATE_MS = 1000;
/** A call that was not answered in this long is given up, and made again later under the same id. */
export const CALL_MS = 5000;
/** What hits an item within this time of its showing was meant for the one before it: the second click of two. */
export const SETTLE_MS = 300;
const RETRY_MS = [1000, 2000, 4000, 8000];

export interface LastSaved {
  item: string;
  row: number;
  saved_at: string;
  what: string;
}

export interface Conflict {
  entries: Entry[];
  mine: Mine | null;
  task: Task;
}

export type Status =
  | { kind: "nothing" }
  | { kind: "saving" }
  | { kind: "saved"; last: LastSaved }
  | { kind: "not-saved"; count: number; why: string; asked: boolean; lost: boolean };

export class Session {
  readonly opened = signal<Opened | null>(null);
  readonly task = signal<Task | null>(null);
  readonly items = signal<[string, State][]>([]);
  readonly progress = signal<Progress>({ done: 0, total: 0, skipped: 0, closed: false });
  readonly notes = signal<Notes>(notesOf(null));
  readonly entries = signal<Entry[]>([]);
  readonly last = signal<LastSaved | null>(null);
  readonly conflict = signal<Conflict | null>(null);
  /** Why an item or the queue could not be shown. */
  readonly trouble = signal<string | null>(null);
  /** A word on something that was not done, and why. */
  readonly hint = signal<string | null>(null);
  readonly loading = signal(true);
  readonly lasting = signal(true);
  /** Seconds that each of the last ratings took. */
  readonly paces = signal<number[]>([]);
  /** Where the last call ended: null when it was answered. */
  private readonly lost = signal<string | null>(null);
  private readonly late = signal(false);

  readonly status = computed<Status>(() => {
    const open = this.entries.value;
    const why = this.lost.value ?? open.find((entry) => entry.trouble)?.trouble?.message ?? null;
    if (open.length > 0 && (why !== null || this.late.value))
      return {
        kind: "not-saved",
        count: open.length,
        why: why ?? "no answer yet.",
        asked: open.every((entry) => entry.trouble?.type === "Conflict"),
        lost: this.lost.value !== null,
      };
    if (open.length > 0) return { kind: "saving" };
    return this.last.value ? { kind: "saved", last: this.last.value } : { kind: "nothing" };
  });

  /** What stands for the shown item: the last answer that is on its way, else what is in the ledger. */
  readonly standing = computed<{ pending: Entry | null; mine: Mine | null }>(() => {
    const task = this.task.value;
    const pending = this.entries.value.filter((entry) => entry.item === task?.item).at(-1) ?? null;
    return { pending, mine: task?.mine ?? null };
  });

  readonly clock = new Clock();
  private outbox: Outbox | null = null;
  private drafts: Drafts | null = null;
  private readonly past: string[] = [];
  private readonly ours = new Set<string>();
  private shownAt = 0;
  private lastMade = 0;
  private flushing = false;
  private more = false;
  private tries = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private asking: ReturnType<typeof setTimeout> | undefined;
  private lateness: ReturnType<typeof setTimeout> | undefined;
  private turn = 0;
  private ended = false;

  constructor(
    private readonly host: Host,
    private readonly now: () => number = () => Date.now(),
  ) {}

  /** Whether a kernel is at the other end. */
  get comm(): boolean {
    return this.host.kind === "comm";
  }

  /** Open the queue: the first item that is not rated, and whatever an earlier page could not save. */
  async start(): Promise<void> {
    this.loading.value = true;
    try {
      const { data } = await this.host.call<Opened>("open", {});
      if (this.ended) return;
      this.opened.value = data;
      this.outbox ??= new Outbox(data.queue, data.rater);
      this.drafts ??= new Drafts(data.queue, data.rater);
      this.outbox.listen((news) => this.heard(news));
      this.take(data);
      this.show(data.task);
      this.trouble.value = null;
      this.recount();
      // An answer that an earlier page could not save: when it is, the next item is shown, as it would have been there.
      for (const entry of this.entries.value) if (entry.item === data.task?.item) this.ours.add(entry.id);
      void this.flush();
    } catch (error) {
      this.trouble.value = said(error);
    } finally {
      this.loading.value = false;
    }
  }

  stop(): void {
    this.ended = true;
    clearTimeout(this.retry);
    clearTimeout(this.asking);
    clearTimeout(this.lateness);
    this.outbox?.close();
  }

  // -- moving ------------------------------------------------------------------------------------------------------------------------

  /** The next item that is not rated. */
  async advance(): Promise<void> {
    await this.load<Next>("next", { after: this.task.value?.item ?? null });
  }

  /** The item before or after this one, rated or not. */
  async step(by: 1 | -1): Promise<void> {
    this.saveNotes();
    const items = this.items.value;
    const shown = this.task.value;
    const at = shown ? items.findIndex(([item]) => item === shown.item) : items.length;
    const wanted = items[at + by];
    if (wanted) await this.go(wanted[0]);
    else this.hint.value = by > 0 ? "This is the last item." : "This is the first item.";
  }

  async go(item: string): Promise<void> {
    await this.load<Next>("task", { item });
  }

  private async load<T extends Next>(method: string, params: object): Promise<void> {
    const turn = ++this.turn;
    this.loading.value = true;
    try {
      const { data } = await this.host.call<T>(method, params, { timeout: CALL_MS });
      if (turn !== this.turn || this.ended) return;
      this.take(data);
      this.show(data.task);
      this.trouble.value = null;
    } catch (error) {
      if (turn === this.turn) this.trouble.value = said(error);
    } finally {
      if (turn === this.turn) this.loading.value = false;
    }
  }

  private take(data: Next): void {
    if (data.items) this.items.value = data.items;
    this.progress.value = data.progress;
  }

  private show(task: Task | null): void {
    const other = task?.item !== this.task.value?.item;
    this.task.value = task;
    this.notes.value = (task && this.drafts?.get(task.item)) ?? notesOf(task?.mine ?? null);
    if (!other) return;
    this.hint.value = null;
    this.clock.restart();
    this.shownAt = this.now();
  }

  // -- answering ---------------------------------------------------------------------------------------------------------------------

  /** Put an answer down and send it. The same answer twice (a double click) is one. */
  answer(value: Value): void {
    this.give({ value, skip: null });
  }

  skip(reason: string): void {
    this.give({ value: null, skip: reason || "no reason given" });
  }

  /** Comment, correction and flag of an item that is rated already; otherwise they go with the rating. */
  saveNotes(): void {
    const held = this.held();
    if (held && (held.value !== null || held.skip !== null) && !sameNotes(this.notes.value, held)) this.give(held, false);
  }

  setNotes(change: Partial<Notes>): void {
    const task = this.task.value;
    if (!task) return;
    this.notes.value = { ...this.notes.value, ...change };
    this.drafts?.put(task.item, this.notes.value);
  }

  flag(): void {
    this.setNotes({ flag: !this.notes.value.flag });
    this.saveNotes();
  }

  /** Take back the last answer of this sitting, or that of the item that is shown. Nothing is deleted: a row says that it is taken back. */
  async undo(): Promise<void> {
    const item = this.past.at(-1) ?? this.task.value?.item;
    if (item === undefined) return;
    if (item !== this.task.value?.item) await this.go(item);
    if (this.task.value?.item !== item) return;
    const refusal = this.refusal(false);
    if (refusal !== null) {
      this.hint.value = refusal;
      return;
    }
    if (this.past.at(-1) === item) this.past.pop();
    const held = this.held();
    if (!held || (held.value === null && held.skip === null)) {
      this.hint.value = "There is nothing to take back here.";
      return;
    }
    this.put({ method: "undo", value: null, skip: null, ...notesOf(null), seconds: null });
  }

  /** What would hold if all that is on its way arrives. */
  private held(): (Notes & { value: Value | null; skip: string | null }) | null {
    const { pending, mine } = this.standing.value;
    if (pending) return pending.method === "undo" ? null : { ...pending, comment: pending.comment ?? "", correction: pending.correction ?? "" };
    return mine && { ...notesOf(mine), value: mine.value, skip: mine.skip };
  }

  private give(answer: { value: Value | null; skip: string | null }, forward = true): void {
    const refusal = this.refusal(forward);
    if (refusal !== null) {
      this.hint.value = refusal;
      return;
    }
    const held = this.held();
    if (held && held.value === answer.value && held.skip === answer.skip && sameNotes(this.notes.value, held)) {
      if (!this.standing.value.pending && forward) void this.advance();
      return;
    }
    if (forward) this.past.push(this.task.value?.item as string);
    this.put({ method: "submit", ...answer, ...this.notes.value, seconds: forward ? this.clock.seconds : null }, forward);
  }

  private refusal(forward: boolean): string | null {
    if (!this.task.value) return "No item is shown.";
    if (this.progress.value.closed) return "This queue is closed: nothing more can be rated.";
    if (this.conflict.value) return "First say which of the two ratings shall hold.";
    if (forward && this.now() - this.shownAt < SETTLE_MS) return "Not taken: the item had only just appeared.";
    return null;
  }

  private put(given: Omit<Entry, "id" | "item" | "expects" | "made" | "trouble">, forward = false): void {
    const task = this.task.value;
    if (!task || !this.outbox) return;
    const { pending, mine } = this.standing.value;
    this.lastMade = Math.max(this.now(), this.lastMade + 1);
    const entry: Entry = {
      ...given,
      comment: given.comment || null,
      correction: given.correction || null,
      id: unique(),
      item: task.item,
      expects: pending ? { after: pending.id } : (mine?.row ?? 0),
      made: this.lastMade,
      trouble: null,
    };
    this.hint.value = null;
    if (forward) this.ours.add(entry.id);
    this.outbox.put(entry);
    this.recount();
    this.tries = 0;
    void this.flush();
  }

  // -- sending -----------------------------------------------------------------------------------------------------------------------

  /** Send what can be sent, oldest first; of one item only the first, for the next one names the row that it replaces. */
  async flush(): Promise<void> {
    clearTimeout(this.retry);
    this.more = true;
    if (this.flushing || !this.outbox || this.ended) return;
    this.flushing = true;
    try {
      while (this.more) {
        this.more = false;
        for (const entry of this.ready()) {
          const sent = await alone(entry.id, () => this.send(entry));
          if (sent === "saved") this.more = true;
          if (sent === "unreachable") return;
        }
      }
    } finally {
      this.flushing = false;
      this.recount();
      if (this.entries.value.some((entry) => entry.trouble?.type !== "Conflict")) this.later();
      // Also what an earlier page was asked, and nobody has answered.
      const open = this.entries.value.find((entry) => entry.trouble?.type === "Conflict");
      if (open && !this.conflict.value && !this.ended) void this.ask(open.item);
    }
  }

  private ready(): Entry[] {
    const first = new Map<string, Entry>();
    for (const entry of this.outbox?.all() ?? []) if (!first.has(entry.item)) first.set(entry.item, entry);
    return [...first.values()].filter((entry) => entry.trouble?.type !== "Conflict");
  }

  private async send(entry: Entry): Promise<"saved" | "refused" | "unreachable"> {
    const outbox = this.outbox as Outbox;
    if (!outbox.has(entry.id)) return "refused"; // another panel has just sent it, or it was given up
    const { id, item, expects, value, comment, seconds, flag, skip, correction } = entry;
    const known = typeof expects === "number" ? expects : -1; // the row before it got lost: let the person decide
    const params = entry.method === "undo" ? { id, item, expects: known } : { id, item, expects: known, value, comment, seconds, flag, skip, correction };
    try {
      const { data } = await this.host.call<Saved>(entry.method, params, { timeout: CALL_MS });
      this.lost.value = null;
      this.tries = 0;
      this.keep(entry, data);
      return "saved";
    } catch (error) {
      if (!(error instanceof Refused)) {
        this.lost.value = said(error);
        return "unreachable";
      }
      this.lost.value = null;
      outbox.put({ ...entry, trouble: { type: error.type, message: error.message } });
      this.recount();
      return "refused";
    }
  }

  private keep(entry: Entry, saved: Saved): void {
    this.outbox?.saved(entry, saved.row, saved.saved_at);
    const draft = this.drafts?.get(entry.item);
    const written = { comment: entry.comment ?? "", correction: entry.correction ?? "", flag: entry.flag };
    // What was written while the answer was on its way is not in it.
    if (!draft || entry.method === "undo" || sameNotes(draft, written)) this.drafts?.drop(entry.item);
    this.mark(entry, saved.row, saved.saved_at);
    this.recount();
    const again = this.entries.value.some((other) => other.item === entry.item);
    if (!this.ours.delete(entry.id) || again) return;
    if (entry.seconds !== null) this.paces.value = [...this.paces.value.slice(-19), entry.seconds];
    if (this.task.value?.item === entry.item) void this.advance();
  }

  /** Only here is anything called saved: after the commit. */
  private mark(entry: Entry, row: number, saved_at: string): void {
    const state = entry.skip !== null ? "skipped" : entry.value === null ? "open" : "rated";
    this.count(entry.item, state);
    const what = entry.method === "undo" ? "taken back" : entry.skip !== null ? "skipped" : "rated";
    this.last.value = { item: entry.item, row, saved_at, what };
    const task = this.task.value;
    if (task?.item !== entry.item) return;
    const { value, comment, flag, skip, correction } = entry;
    this.task.value = { ...task, mine: { row, value, comment, flag, skip, correction, saved_at } };
    if (entry.method === "undo") this.notes.value = notesOf(null);
  }

  private count(item: string, state: State): void {
    const old = this.items.value.find(([name]) => name === item)?.[1];
    const by = (which: State) => Number(state === which) - Number(old === which);
    const { done, skipped } = this.progress.value;
    this.progress.value = { ...this.progress.value, done: done + by("rated"), skipped: skipped + by("skipped") };
    this.items.value = this.items.value.map(([name, now]) => [name, name === item ? state : now]);
  }

  private later(): void {
    clearTimeout(this.retry);
    if (this.ended) return;
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)] as number;
    this.tries += 1;
    this.retry = setTimeout(() => void this.flush(), wait);
  }

  private recount(): void {
    if (!this.outbox) return;
    const entries = this.outbox.all();
    this.entries.value = entries;
    this.lasting.value = this.outbox.lasting;
    clearTimeout(this.lateness);
    if (entries.length === 0) {
      this.late.value = false;
      this.lost.value = null;
      return;
    }
    const wait = (entries[0] as Entry).made + LATE_MS - this.now();
    if (wait <= 0) this.late.value = true;
    else this.lateness = setTimeout(() => (this.late.value = true), wait);
  }

  /** Another panel of this queue and rater put something down, or got it saved. */
  private heard(news: News): void {
    const before = this.entries.value;
    this.recount();
    const asked = this.conflict.value; // and answered there?
    if (asked && !this.entries.value.some((entry) => entry.item === asked.task.item && entry.trouble?.type === "Conflict")) this.conflict.value = null;
    if (news.kind === "put") return this.later();
    if (news.kind !== "saved") return;
    const entry = before.find((each) => each.id === news.id);
    if (entry) this.mark(entry, news.row, news.saved_at);
    if (entry && this.ours.delete(entry.id) && this.task.value?.item === news.item) void this.advance();
    else if (this.task.value?.item === news.item) void this.go(news.item);
    for (const later of this.entries.value)
      if (typeof later.expects === "object" && later.expects.after === news.id) this.outbox?.put({ ...later, expects: news.row });
  }

  // -- two answers -------------------------------------------------------------------------------------------------------------------

  /** Another window saved something else for this item: find out what, and ask. */
  private async ask(item: string): Promise<void> {
    clearTimeout(this.asking);
    try {
      const { data } = await this.host.call<Next>("task", { item }, { timeout: CALL_MS });
      if (!data.task || this.ended) return;
      const entries = (this.outbox?.all() ?? []).filter((entry) => entry.item === item);
      this.conflict.value = { entries, mine: data.task.mine, task: data.task };
    } catch {
      if (!this.ended) this.asking = setTimeout(() => void this.ask(item), RETRY_MS[1]);
    }
  }

  /** Give up what this window wanted to say: what is saved holds. */
  async keepTheirs(): Promise<void> {
    const asked = this.conflict.value;
    if (!asked) return;
    this.outbox?.drop(asked.entries.map((entry) => entry.id));
    this.drafts?.drop(asked.task.item);
    this.settled();
    await this.go(asked.task.item);
  }

  /** Say it again, now knowing what it replaces. */
  keepMine(): void {
    const asked = this.conflict.value;
    const first = asked?.entries[0];
    if (!asked || !first) return;
    this.outbox?.put({ ...first, expects: asked.mine?.row ?? 0, trouble: null });
    this.settled();
    void this.flush();
  }

  private settled(): void {
    this.conflict.value = null;
    this.recount();
    const other = this.entries.value.find((entry) => entry.trouble?.type === "Conflict");
    if (other) void this.ask(other.item);
  }

  /** What is not saved, for a file that `q.import_ratings` takes. */
  lines(): string {
    const { queue, rater } = this.opened.value ?? { queue: "", rater: "" };
    return asLines(this.entries.value, this.opened.value?.name ?? queue, rater);
  }

  /** Give up entries that the other side refuses; the person has been asked. */
  discard(): void {
    this.outbox?.drop(this.entries.value.filter((entry) => entry.trouble).map((entry) => entry.id));
    this.recount();
    if (this.task.value) void this.go(this.task.value.item);
  }
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Also on a page without TLS, where there is no crypto.randomUUID. */
function unique(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
