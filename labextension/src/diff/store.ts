// What the view knows: which rows are listed and which one is open. Rows come in pages, when they are looked at.
import { batch, computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { type Host, told } from "../kit/host";
import type { Filter, Line, Opened, PairOf, Row, Rows, SliceOf, Slices } from "./wire";

/** As many as Python gives at once, and as a file without a kernel keeps. */
export const PAGE = 200;
export const TABS = ["rows", "slices", "question", "scores"] as const;
export type Tab = (typeof TABS)[number];

let views = 0;

export class Store {
  readonly opened: Signal<Opened | null> = signal(null);
  readonly trouble = signal("");
  readonly tab: Signal<Tab> = signal("rows");
  readonly pair = signal(0);
  readonly filter: Signal<Filter> = signal("all");
  readonly slice: Signal<SliceOf | null> = signal(null);
  readonly search = signal("");
  readonly planOrder = signal(false);
  readonly total = signal(0);
  readonly all = signal(0);
  readonly loaded: Signal<ReadonlyMap<number, Line[]>> = signal(new Map());
  readonly at = signal(0);
  readonly row: Signal<Row | null> = signal(null);
  readonly reply = signal(0);
  readonly inline = signal(false);
  readonly asText = signal(false);
  readonly help = signal(false);
  readonly slices: Signal<Slices | null> = signal(null);
  readonly slicesTrouble = signal("");
  readonly comparison: ReadonlySignal<PairOf | null> = computed(() => this.opened.value?.pairs[this.pair.value] ?? null);
  private readonly wanted = new Set<number>();
  private readonly kept = new Map<number, Row>();
  private query = 0;
  /** Of this view on the page: what its elements' ids begin with. */
  readonly id = `ll-diff-${++views}`;

  constructor(readonly host: Host) {}

  async open(): Promise<void> {
    const opened = await this.asked<Opened>("open");
    if (!opened) return;
    this.opened.value = opened;
    await this.list();
  }

  /** Choose other rows: the list begins again at its top. */
  async list(changed: () => void = () => {}): Promise<void> {
    const query = ++this.query;
    batch(() => {
      changed();
      this.loaded.value = new Map();
      this.at.value = 0;
    });
    this.wanted.clear();
    const first = await this.page(0);
    if (query !== this.query) return;
    if (first === null) {
      this.total.value = this.all.value = 0; // why stands on top
      this.row.value = null;
      return;
    }
    batch(() => {
      this.all.value = first.total;
      // A file without a kernel has the first page and no more.
      this.total.value = this.host.kind === "embedded" ? first.rows.length : first.total;
    });
    await this.select(0);
  }

  line(at: number): Line | undefined {
    return this.loaded.value.get(Math.floor(at / PAGE))?.[at % PAGE];
  }

  /** Fetch the pages that these rows of the list are on. */
  need(first: number, last: number): void {
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page++) {
      if (!this.loaded.value.has(page) && !this.wanted.has(page)) void this.page(page);
    }
  }

  async select(at: number): Promise<void> {
    const bounded = Math.min(Math.max(0, at), this.total.value - 1);
    this.at.value = Math.max(0, bounded);
    if (bounded < 0) {
      this.row.value = null;
      return;
    }
    if (!this.line(bounded)) await this.page(Math.floor(bounded / PAGE));
    const line = this.line(bounded);
    if (!line || this.at.value !== bounded) return;
    const row = this.kept.get(line.row) ?? (await this.asked<Row>("row", { row: line.row }));
    if (this.at.value !== bounded || this.line(bounded)?.row !== line.row) return;
    if (!row) {
      this.row.value = null; // another row's texts must not stand there as this one's
      return;
    }
    if (this.kept.size > 500) this.kept.clear();
    this.kept.set(row.row, row);
    batch(() => {
      this.row.value = row;
      this.reply.value = Math.min(this.reply.value, Math.max(0, ...row.variants.map((cells) => cells.length - 1)));
    });
  }

  async showPair(pair: number): Promise<void> {
    if (!this.opened.value?.pairs[pair] || pair === this.pair.value) return;
    await this.list(() => {
      this.pair.value = pair;
      this.slice.value = null;
      this.slices.value = null;
      this.slicesTrouble.value = "";
    });
    if (this.tab.value === "slices") await this.showTab("slices");
  }

  async showTab(tab: Tab): Promise<void> {
    this.tab.value = tab;
    if (tab !== "slices" || this.slices.value || this.opened.value?.slices_note) return;
    const pair = this.pair.value;
    this.slicesTrouble.value = "";
    try {
      const { data } = await this.host.call<Slices>("slices", { pair });
      if (pair === this.pair.value) this.slices.value = data;
    } catch (error) {
      if (pair === this.pair.value) this.slicesTrouble.value = told(error);
    }
  }

  private async page(number: number): Promise<Rows | null> {
    this.wanted.add(number);
    const query = this.query;
    const found = await this.asked<Rows>("rows", {
      pair: this.pair.value,
      filter: this.filter.value,
      start: number * PAGE,
      count: PAGE,
      slice: this.slice.value?.at,
      search: this.search.value || undefined,
      sort: this.planOrder.value ? "plan" : undefined,
    });
    this.wanted.delete(number);
    if (!found || query !== this.query) return null;
    this.loaded.value = new Map(this.loaded.value).set(number, found.rows);
    return found;
  }

  private async asked<T>(method: string, params: object = {}): Promise<T | null> {
    try {
      const { data } = await this.host.call<T>(method, params);
      this.trouble.value = "";
      return data;
    } catch (error) {
      this.trouble.value = told(error);
      return null;
    }
  }
}
