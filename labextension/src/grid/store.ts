// What the view of a grid knows: the pages that it holds, what is selected, what is open. Everything else is asked for.
import { batch, signal } from "@preact/signals";
import { type Answer, type Host, told } from "../kit/host";
import { type Detail, type Groups, type Line, lines, type Opened, type PageTold, PLAIN, type Query, type Standing, type Summary } from "./wire";

const AT_ONCE = 3;
const POLL = 2000;
const HELD = 60;
let views = 0;

export class Store {
  readonly opened = signal<Opened | null>(null);
  readonly standing = signal<Standing | null>(null);
  readonly query = signal<Query>(PLAIN);
  readonly count = signal({ lines: 0, cells: 0 });
  readonly drawn = signal(0);
  readonly problem = signal("");
  readonly selection = signal<ReadonlySet<number>>(new Set());
  readonly active = signal({ line: 0, column: 0 });
  readonly detail = signal<{ cell: number; data: Detail | null; problem: string } | null>(null);
  readonly summary = signal<Summary | null>(null);
  readonly scorer = signal("");
  readonly by = signal("");
  readonly groups = signal<Groups | null>(null);
  /** Of this view on the page: what its elements' ids begin with. */
  readonly id = `llg-${++views}`;
  private pages = new Map<number, { lines: Line[]; stale: boolean }>();
  private asked = new Set<number>();
  private wanted: number[] = [];
  private seen: [number, number] = [0, 0];
  private size = 120;
  private generation = 0;
  private figured = "";
  private later: Partial<Query> | null = null;
  /** What the held pages are the answer to. */
  private answered = PLAIN;
  private looking = false;
  private kept: ReadonlySet<number> = new Set();
  private chosen = 0;
  private ended = false;
  private timer = 0;
  private stop = () => {};

  constructor(readonly host: Host) {}

  async begin(): Promise<void> {
    this.stop = this.host.listen((event) => this.stood(event as Standing));
    await this.tried(async () => {
      const answer = await this.host.call<Opened>("open", {});
      if (this.ended) return;
      const opened = answer.data;
      this.opened.value = opened;
      this.standing.value = opened;
      this.query.value = this.answered = { ...PLAIN, layout: opened.layout };
      this.selection.value = this.kept = new Set(opened.selected);
      this.scorer.value = opened.scorers[0]?.name ?? "";
      this.take({ data: opened.page, buffers: answer.buffers });
      this.figure();
      this.poll();
    });
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.stop();
  }

  /** Hosts without live events are asked again and again while something may change. */
  private poll(): void {
    if (this.host.kind !== "rest" || this.ended) return;
    this.timer = window.setTimeout(async () => {
      const now = this.standing.value;
      if (now && (now.state === "running" || !now.ready)) await this.tried(async () => this.stood((await this.host.call<Standing>("standing")).data));
      this.poll();
    }, POLL);
  }

  private stood(standing: Standing): void {
    const before = this.standing.value;
    this.standing.value = standing;
    if (!this.opened.value || (before && before.version === standing.version && before.state === standing.state)) return;
    for (const page of this.pages.values()) page.stale = true;
    this.want();
    this.figure();
    if (this.detail.value) void this.open(this.detail.value.cell);
    if (standing.ready && this.later) void this.look(this.later);
  }

  // -- lines -------------------------------------------------------------------------------------------------------------
  line(index: number): Line | undefined {
    return this.pages.get(Math.floor(index / this.size))?.lines[index % this.size];
  }

  /** These lines are in sight: what is missing of them is asked for. */
  see(first: number, last: number): void {
    this.seen = [first, last];
    this.want();
  }

  private want(): void {
    const from = Math.floor(this.seen[0] / this.size);
    const to = Math.floor(Math.max(0, Math.min(this.seen[1], this.count.value.lines - 1)) / this.size);
    this.wanted = [];
    for (let page = from; page <= to; page++) this.wanted.push(page);
    const last = Math.floor(Math.max(0, this.count.value.lines - 1) / this.size);
    for (const near of [to + 1, from - 1]) if (near >= 0 && near <= last && !this.pages.has(near)) this.wanted.push(near);
    this.ask();
  }

  private ask(): void {
    if (this.looking) return; // these pages are about to go
    for (const page of this.wanted) {
      if (this.asked.size >= AT_ONCE) return;
      const held = this.pages.get(page);
      if (this.asked.has(page) || (held && !held.stale)) continue;
      this.asked.add(page);
      void this.fetch(page);
    }
  }

  private async fetch(page: number): Promise<void> {
    const generation = this.generation;
    let answered = false;
    await this.tried(async () => {
      const answer = await this.host.call<PageTold>("page", { query: this.query.value, start: page * this.size });
      answered = true;
      if (generation === this.generation) this.take(answer);
    }, generation);
    if (generation !== this.generation || this.ended) return;
    this.asked.delete(page);
    // Wanted again when the reader moves or the grid has news: a kernel that is gone says so at once, and would be asked without end.
    if (!answered) this.wanted = this.wanted.filter((each) => each !== page);
    this.ask();
  }

  private take(answer: { data: PageTold; buffers: DataView[] }): void {
    const { start, size, lines: count, cells, version } = answer.data;
    batch(() => {
      this.size = size;
      // An answer may be older than the news that came before it.
      this.pages.set(start / size, { lines: lines(answer, this.names), stale: version < (this.standing.value?.version ?? 0) });
      for (const far of this.pages.keys()) if (this.pages.size > HELD && Math.abs(far - start / size) > HELD / 2) this.pages.delete(far);
      this.count.value = { lines: count, cells };
      this.problem.value = "";
      this.drawn.value++;
    });
  }

  get names(): string[] {
    return this.opened.value?.scorers.map((each) => each.name) ?? [];
  }

  // -- looking for something ---------------------------------------------------------------------------------------------
  /** Changes the query. What was shown stays until the first page of the new one is there. */
  async look(change: Partial<Query>): Promise<void> {
    const query = { ...this.query.value, ...change };
    const generation = ++this.generation;
    this.query.value = query;
    this.later = null;
    this.asked.clear();
    this.wanted = [];
    this.looking = true;
    let answer: Answer<PageTold> | null = null;
    await this.tried(async () => void (answer = await this.host.call<PageTold>("page", { query, start: 0 })), generation);
    if (generation !== this.generation) return;
    this.looking = false;
    if (answer) {
      batch(() => {
        this.answered = query;
        this.pages.clear();
        this.active.value = { line: 0, column: this.active.value.column };
        this.take(answer!);
      });
      this.figure();
    } else {
      this.query.value = this.answered; // of which the answer is still shown
      if (!this.standing.value?.ready) this.later = change;
    }
    this.want(); // what is in sight may be on other pages than the first
  }

  /** Asks for the figures, and the groups where there are any, anew if something changed. */
  figure(force = false): void {
    const { version, ready } = this.standing.value ?? { version: 0, ready: false };
    const { layout: _, sort: _s, descending: _d, by: _b, ...filter } = this.query.value;
    const mark = JSON.stringify([version, this.standing.value?.state, filter, this.scorer.value, this.by.value]);
    if (!ready || (mark === this.figured && !force)) return;
    this.figured = mark;
    const params = { query: this.query.value, scorer: this.scorer.value };
    const by = this.by.value;
    void this.tried(async () => {
      try {
        const summary = (await this.host.call<Summary>("summary", params)).data;
        if (mark === this.figured) this.summary.value = summary;
        const groups = by ? (await this.host.call<Groups>("groups", { ...params, by })).data : null;
        if (mark === this.figured) this.groups.value = groups;
      } catch (error) {
        if (mark !== this.figured) return;
        this.figured = ""; // asked again with the next news
        this.summary.value = this.groups.value = null; // what was there is of something else
        throw error;
      }
    });
  }

  // -- cells -------------------------------------------------------------------------------------------------------------
  async open(cell: number): Promise<void> {
    const known = this.detail.value?.cell === cell ? this.detail.value.data : null;
    this.detail.value = { cell, data: known, problem: "" };
    try {
      const { data } = await this.host.call<Detail>("cell", { cell });
      if (this.detail.value?.cell === cell) this.detail.value = { cell, data, problem: "" };
    } catch (error) {
      if (this.detail.value?.cell === cell) this.detail.value = { cell, data: null, problem: told(error) };
    }
  }

  async select(cells: Iterable<number>): Promise<void> {
    this.selection.value = new Set(cells);
    await this.choose({ cells: [...this.selection.value] });
  }

  async selectAll(): Promise<void> {
    await this.choose({ query: this.query.value });
  }

  /** What is marked is what g.selected() has; an answer that a later choice has overtaken says nothing of it. */
  private async choose(params: object): Promise<void> {
    const turn = ++this.chosen;
    await this.tried(async () => {
      try {
        const { data } = await this.host.call<{ selected: number[] }>("select", params);
        if (turn === this.chosen) this.selection.value = this.kept = new Set(data.selected);
      } catch (error) {
        if (turn === this.chosen) this.selection.value = this.kept;
        throw error;
      }
    });
  }

  /** Asks the other side to do something; `said` tells what became of it. Rejects with what went wrong. */
  async act(method: string, params: object): Promise<string> {
    const { data } = await this.host.call<{ said?: string } & Partial<Standing>>(method, params, { timeout: 120_000 });
    if (data.state !== undefined) this.stood(data as Standing);
    return data.said ?? "";
  }

  /** Runs it; what goes wrong is shown, unless nobody waits for it any more. */
  async tried(work: () => Promise<void>, generation?: number): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (generation === undefined || generation === this.generation) this.problem.value = told(error);
    }
  }
}

