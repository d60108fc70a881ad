// A grid in one HTML file: what Python would look up (api/views/_grid_query.py, _grid_figures.py) is looked up here, in the same way.
// Figures of all cells were worked out in Python; those of a filter are counts and means without intervals.
import { signal } from "@preact/signals";
import { bool, float64, int32, tableFromArrays, tableToIPC, utf8 } from "@uwdata/flechette";
import { type Groups, type Mean, NUMBERS, type Opened, type Query, STATUSES, type Summary } from "../grid/wire";
import { table } from "../kit/arrow";
import type { Recorded } from "../kit/embedded";
import { type Answer, type Host, Refused } from "../kit/host";
import { decoded } from "../kit/rest";

const CELLS_A_PAGE = 120;
const BINS = 12;
const MOST_GROUPS = 60;
const COPY = "this is a copy to be read: what changes a grid is done in a notebook.";

interface More {
  texts: (string | null)[];
  row: number[];
  asked: string[];
  labels: Record<string, { names: string[]; codes: number[] }>;
}

type Column = ArrayLike<any>;
const nothing = (value: unknown): boolean => value === null || value === undefined || Number.isNaN(value);

export function gridHost(recorded: Recorded): Host {
  const grid = new Grid(recorded);
  return {
    kind: "embedded",
    call: async <T>(method: string, params: object = {}) => (await grid.answer(method, params as Params)) as Answer<T>,
    listen: () => () => {},
    waiting: signal(false),
  };
}

interface Params {
  query?: Query;
  start?: number;
  scorer?: string;
  by?: string;
  cell?: number;
  cells?: number[];
}

export class Grid {
  readonly opened: Opened;
  private readonly cells: Record<string, Column> = {};
  private readonly heads: Record<string, Column> = {};
  private readonly size: number;
  /** For each cell the number of its line, where all cells of a row's repeat stand in one line. */
  private readonly lines: number[] = [];
  private more: Promise<More> | null = null;
  private kept: { mark: string; found: number[]; order: number[]; starts: number[] } | null = null;

  constructor(private readonly recorded: Recorded) {
    this.opened = this.data("open");
    const [cells, heads] = this.buffers("all").map(table);
    if (!cells || !heads) throw new Error("the file is not whole");
    this.size = cells.numRows;
    for (const name of cells.names) this.cells[String(name)] = cells.getChild(name).toArray() as Column;
    for (const name of heads.names) this.heads[String(name)] = heads.getChild(name).toArray() as Column;
    let line = -1;
    for (let at = 0; at < this.size; at++) {
      const same = at > 0 && this.head("row_id", at) === this.head("row_id", at - 1) && this.head("replicate", at) === this.head("replicate", at - 1);
      this.lines.push(same ? line : ++line);
    }
  }

  async answer(method: string, params: Params): Promise<Answer<unknown>> {
    if (method === "open") return { data: this.opened, buffers: this.buffers("open") };
    if (method === "standing") return { data: this.opened, buffers: [] };
    if (method === "page") return this.page(params.query, params.start ?? 0);
    if (method === "summary") return { data: await this.summary(params), buffers: [] };
    if (method === "groups") return { data: await this.groups(params), buffers: [] };
    if (method === "cell") return { data: await this.detail(params.cell ?? -1), buffers: [] };
    if (method === "select") return { data: { selected: await this.selected(params) }, buffers: [] };
    throw new Refused("BadInput", COPY);
  }

  // -- what the file holds -----------------------------------------------------------------------------------------------
  private data<T>(name: string): T {
    return this.recorded.answers[name]?.data as T;
  }

  private buffers(name: string): DataView[] {
    return (this.recorded.answers[name]?.buffers ?? []).map((number) => decoded(this.recorded.buffers[number] ?? ""));
  }

  private head(name: string, at: number): unknown {
    return this.heads[name]?.[at];
  }

  private cell(name: string): Column {
    return this.cells[name] ?? [];
  }

  private extra(): Promise<More> {
    this.more ??= unpacked<More>(this.recorded, "more", 0);
    return this.more;
  }

  // -- looking for something ---------------------------------------------------------------------------------------------
  private async page(given: Query | undefined, start: number): Promise<Answer<unknown>> {
    const { found, order, starts } = await this.looked(given);
    const rows = given?.layout === "rows";
    const count = rows ? Math.max(6, Math.floor(CELLS_A_PAGE / Math.max(1, this.opened.variants.length))) : CELLS_A_PAGE;
    const last = Math.min(start + count, starts.length - 1);
    const wanted = new Set(found);
    const at: number[] = [];
    const line: number[] = [];
    const heads: number[] = [];
    for (let number = Math.min(start, last); number < last; number++) {
      heads.push(order[starts[number]!]!);
      for (let place = starts[number]!; place < starts[number + 1]!; place++) {
        at.push(order[place]!);
        line.push(number);
      }
    }
    const of = (name: string) => at.map((place) => this.cell(name)[place] ?? null);
    const whole = ["cell", "variant", "status"].map((name) => [name, of(name), int32()] as const);
    const texts = ["text", "finish", "error"].map((name) => [name, of(name), utf8()] as const);
    const numbers = Object.keys(this.cells).filter((name) => name.startsWith("score:") || NUMBERS.includes(name as never));
    const told = [
      ...whole,
      ["line", line, int32()] as const,
      ...texts,
      ["kept", at.map((place) => wanted.has(place)), bool()] as const,
      ...numbers.map((name) => [name, of(name), float64()] as const),
    ];
    const lines = [
      ["row_id", heads.map((place) => this.head("row_id", place)), utf8()] as const,
      ["replicate", heads.map((place) => this.head("replicate", place)), int32()] as const,
      ["asked", heads.map((place) => this.head("asked", place)), utf8()] as const,
    ];
    const data = { start, size: count, lines: starts.length - 1, cells: found.length, version: this.opened.version };
    return { data, buffers: [stream(told), stream(lines)] };
  }

  private async looked(given: Partial<Query> = {}): Promise<{ found: number[]; order: number[]; starts: number[] }> {
    const mark = JSON.stringify(given);
    if (this.kept?.mark !== mark) {
      const found = await this.found(given);
      this.kept = { mark, found, ...(await this.ordered(given, found)) };
    }
    return this.kept;
  }

  private async found(query: Partial<Query>): Promise<number[]> {
    const tests = [this.byStatus(query.shown ?? "all"), this.byVariant(query.variant ?? -1), this.byScore(query)];
    if ((query.differs ?? -1) >= 0) tests.push(await this.differing(query));
    if (query.where) tests.push(await this.inGroup(...query.where));
    if (query.search) tests.push(await this.matching(query.search, query.regex ?? false));
    const wanted = tests.filter((test) => test !== null);
    const all = Array.from({ length: this.size }, (_, at) => at);
    return wanted.length ? all.filter((at) => wanted.every((test) => test(at))) : all;
  }

  private status(at: number): string {
    return STATUSES[this.cell("status")[at]] ?? "open";
  }

  private byStatus(shown: string): Test {
    if (shown === "all") return null;
    if (shown === "open") return (at) => !["ok", "failed"].includes(this.status(at));
    if (shown === "unscored") return (at) => this.status(at) === "ok" && this.opened.scorers.some(({ name }) => nothing(this.cell(`score:${name}`)[at]));
    return (at) => this.status(at) === shown;
  }

  private byVariant(variant: number): Test {
    return variant < 0 ? null : (at) => this.cell("variant")[at] === variant;
  }

  private byScore({ scorer, low, high }: Partial<Query>): Test {
    if (nothing(low) && nothing(high)) return null;
    const values = this.cell(`score:${scorer || this.opened.scorers[0]?.name}`);
    return (at) => !nothing(values[at]) && values[at] >= (low ?? -Infinity) && values[at] <= (high ?? Infinity);
  }

  /** Another text or score than the baseline's in the same line; only where both have one. */
  private async differing({ differs, differs_in }: Partial<Query>): Promise<Test> {
    const text = (differs_in ?? "text") === "text";
    const values: Column = text ? (await this.extra()).texts : this.cell(`score:${differs_in}`);
    const base = new Map<number, number>();
    for (let at = 0; at < this.size; at++) if (this.cell("variant")[at] === differs) base.set(this.lines[at]!, at);
    return (at) => {
      const other = base.get(this.lines[at]!);
      return other !== undefined && !nothing(values[at]) && !nothing(values[other]) && values[at] !== values[other];
    };
  }

  private async inGroup(column: string, group: string): Promise<Test> {
    const labels = await this.labels(column);
    const code = labels.names.indexOf(group);
    return (at) => labels.codes[at] === code;
  }

  private async labels(column: string) {
    const labels = (await this.extra()).labels[column];
    if (!labels) throw new Refused("UnknownName", `There is no column called ${column}.`);
    return labels;
  }

  private async matching(search: string, regex: boolean): Promise<Test> {
    const more = await this.extra();
    const fits = regex ? pattern(search) : words(search);
    const rows = new Map<number, boolean>();
    return (at) => {
      const row = more.row[at]!;
      if (!rows.has(row)) rows.set(row, fits(String(this.head("row_id", at))) || fits(more.asked[row] ?? ""));
      return rows.get(row)! || fits(more.texts[at] ?? "") || fits(this.cell("error")[at] ?? "");
    };
  }

  // -- order -------------------------------------------------------------------------------------------------------------
  private async ordered(query: Partial<Query>, found: number[]): Promise<{ order: number[]; starts: number[] }> {
    const values = query.sort ? await this.column(query.sort) : null;
    if (query.layout !== "rows") {
      const order = values ? sorted(found, (at) => values[at], query.descending) : found;
      return { order, starts: Array.from({ length: order.length + 1 }, (_, at) => at) };
    }
    const wanted = new Set(found.map((at) => this.lines[at]!));
    const lines = new Map<number, number[]>();
    this.lines.forEach((line, at) => {
      if (wanted.has(line)) grouped(lines, line).push(at);
    });
    const made = [...lines.values()];
    const inOrder = values ? sorted(made, (line) => this.ofLine(line, values, query), query.descending) : made;
    const starts = [0];
    for (const line of inOrder) starts.push(starts.at(-1)! + line.length);
    return { order: inOrder.flat(), starts };
  }

  /** The value of one variant, or the mean of all; of texts and the like the first. */
  private ofLine(line: number[], values: Column, { by = -1, sort = "" }: Partial<Query>): unknown {
    const mine = line.filter((at) => (by < 0 || this.cell("variant")[at] === by) && !nothing(values[at])).map((at) => values[at]);
    const numeric = this.opened.scorers.some(({ name }) => name === sort) || NUMBERS.includes(sort as never);
    return !mine.length ? null : numeric ? mine.reduce((sum, value) => sum + value, 0) / mine.length : mine[0];
  }

  private async column(sort: string): Promise<Column> {
    if (sort === "row") return (await this.extra()).row;
    if (sort === "text") return (await this.extra()).texts.map((text) => text || null);
    if (sort === "status") return Array.from({ length: this.size }, (_, at) => this.status(at));
    if (sort === "finish_reason" || sort === "error") return Array.from(this.cell(sort === "error" ? sort : "finish"), (text) => text || null);
    return this.cells[`score:${sort}`] ?? this.cell(sort);
  }

  // -- figures -----------------------------------------------------------------------------------------------------------
  private async summary({ query, scorer = "" }: Params): Promise<Summary> {
    const whole = this.data<Record<string, Summary>>("summary")[scorer || (this.opened.scorers[0]?.name ?? "")];
    if (!whole) throw new Refused("UnknownName", `There is no scorer called ${scorer}.`);
    const { found } = await this.looked(query);
    if (found.length === this.size || !whole.figures) return { ...whole, cells: found.length };
    const edges = edgesOf(this.values(found, whole.figures.scorer), whole.figures.binary ? 2 : BINS);
    const variants = this.opened.variants.map((_, number) => {
      const mine = found.filter((at) => this.cell("variant")[at] === number);
      const counts = Array<number>(edges.length - 1).fill(0);
      for (const value of this.values(mine, whole.figures!.scorer)) counts[bin(value, edges)]!++;
      return { ...this.mean(mine, whole.figures!.scorer), counts };
    });
    return { ...whole, cells: found.length, figures: { ...whole.figures, edges, variants } };
  }

  private async groups({ query, by = "", scorer = "" }: Params): Promise<Groups> {
    const name = scorer || (this.opened.scorers[0]?.name ?? "");
    const whole = this.data<Record<string, Record<string, Groups>>>("groups")[by]?.[name];
    const { found } = await this.looked(query);
    if (whole && found.length === this.size) return whole;
    const labels = await this.labels(by);
    const inside = new Map<string, number[]>();
    for (const at of found) {
      grouped(inside, labels.names[labels.codes[at]!]!).push(at);
    }
    const largest = [...inside].sort(([, one], [, other]) => other.length - one.length).slice(0, MOST_GROUPS);
    const order = new Map((whole?.groups ?? []).map(({ group }, number) => [group, number]));
    const groups = largest
      .sort(([one], [other]) => (order.get(one) ?? MOST_GROUPS) - (order.get(other) ?? MOST_GROUPS))
      .map(([group, cells]) => ({
        group,
        n: cells.length,
        variants: this.opened.variants.map((_, number) => this.mean(cells.filter((at) => this.cell("variant")[at] === number), name)),
      }));
    return { scorer: name, groups, more: inside.size - groups.length, more_cells: found.length - groups.reduce((sum, { n }) => sum + n, 0) };
  }

  private values(cells: number[], scorer: string): number[] {
    const values = this.cell(`score:${scorer}`);
    return cells.map((at) => values[at] as number).filter((value) => Number.isFinite(value));
  }

  private mean(cells: number[], scorer: string): Mean {
    const values = this.values(cells, scorer);
    const value = values.length ? values.reduce((sum, each) => sum + each, 0) / values.length : null;
    return { n: cells.length, scored: values.length, value, low: null, high: null };
  }

  // -- cells -------------------------------------------------------------------------------------------------------------
  private async detail(number: number): Promise<unknown> {
    const at = Array.prototype.indexOf.call(this.cell("cell"), number);
    const { size } = this.data<{ size: number }>("cell");
    if (at < 0) throw new Refused("UnknownName", `There is no cell ${number}.`);
    return (await unpacked<unknown[]>(this.recorded, "cell", Math.floor(at / size)))[at % size];
  }

  private async selected({ query, cells }: Params): Promise<number[]> {
    return query ? (await this.looked(query)).found.map((at) => this.cell("cell")[at] as number) : (cells ?? []);
  }
}

type Test = ((at: number) => boolean) | null;

function grouped<K>(groups: Map<K, number[]>, key: K): number[] {
  const known = groups.get(key) ?? [];
  groups.set(key, known);
  return known;
}

function words(search: string): (text: string) => boolean {
  const wanted = folded(search);
  return (text) => folded(text).includes(wanted);
}

/** Near enough to Python's casefold: "Straße" is found by "STRASSE". */
const folded = (text: string): string => text.toUpperCase().toLowerCase().replaceAll("ς", "σ");

function pattern(search: string): (text: string) => boolean {
  try {
    const made = new RegExp(search, "imu");
    return (text) => made.test(text);
  } catch (error) {
    throw new Refused("BadInput", `${search} is no regular expression: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Stable; what is missing comes last, whichever way the rest goes. */
function sorted<T>(items: T[], value: (item: T) => any, descending = false): T[] {
  const keyed = items.map((item) => ({ item, key: value(item) }));
  const there = keyed.filter(({ key }) => !nothing(key));
  there.sort((one, other) => (one.key === other.key ? 0 : one.key < other.key === descending ? 1 : -1));
  return [...there, ...keyed.filter(({ key }) => nothing(key))].map(({ item }) => item);
}

function edgesOf(values: number[], bins: number): number[] {
  let low = values.length ? values.reduce((one, other) => Math.min(one, other)) : 0;
  let high = values.length ? values.reduce((one, other) => Math.max(one, other)) : 1;
  if (low >= 0 && high <= 1) [low, high] = [0, 1];
  else if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return Array.from({ length: bins + 1 }, (_, at) => (at === bins ? high : low + (at * (high - low)) / bins));
}

function bin(value: number, edges: number[]): number {
  const last = edges.length - 2;
  for (let at = 0; at < last; at++) if (value < edges[at + 1]!) return at;
  return last;
}

function stream(columns: (readonly [string, unknown[], any])[]): DataView {
  const types = Object.fromEntries(columns.map(([name, , type]) => [name, type]));
  const made = tableFromArrays(
    columns.map(([name, values]) => [name, values] as [string, unknown[]]),
    { types },
  );
  const bytes = tableToIPC(made, { format: "stream" })!;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** JSON that Python has packed with gzip. */
async function unpacked<T>(recorded: Recorded, name: string, part: number): Promise<T> {
  const number = recorded.answers[name]?.buffers?.[part];
  const packed = decoded(recorded.buffers[number ?? -1] ?? "");
  const unzipped = new Blob([packed as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(unzipped).json()) as T;
}
