// The table itself: only the lines in sight are in the page, and arrow keys move through all of them.
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useWindow } from "../kit/window";
import { number, reply, seconds, variantName } from "./format";
import type { Store } from "./store";
import { type Cell, type Line, NUMBERS, type Opened } from "./wire";

const HEIGHT = { cells: 30, rows: 66 };
/** With more scorers a cell beside others shows the chosen one alone. */
const MOST_SCORES = 3;
const UNITS: Record<string, string> = { input_tokens: "tokens in", output_tokens: "tokens out", cost_usd: "cost $", latency_s: "seconds", ttft_s: "first token" };

interface Column {
  key: string;
  title: string;
  width: string;
  /** The query's name of this column; "" where nothing is sorted by it. */
  sort: string;
  by: number;
  numeric?: boolean;
  cell?: number;
}

export function columnsOf(opened: Opened, layout: string, scorer: string): Column[] {
  const plain = (key: string, title: string, width: string, sort = ""): Column => ({ key, title, width, sort, by: -1 });
  const made = [plain("pick", "", "34px"), plain("row", "row", "110px", "row")];
  if (opened.repeats > 1) made.push(plain("replicate", "repeat", "64px"));
  made.push(plain("asked", "asked", "minmax(140px, 1fr)"));
  if (layout === "rows")
    return made.concat(
      opened.variants.map((pair, cell) => ({ key: `v${cell}`, title: variantName(pair, opened.variants), width: "minmax(210px, 2fr)", sort: scorer || "text", by: cell, cell })),
    );
  const several = (side: 0 | 1) => new Set(opened.variants.map((pair) => pair[side])).size > 1;
  if (several(0)) made.push(plain("prompt", "prompt", "110px", "variant"));
  if (several(1)) made.push(plain("model", "model", "130px", "variant"));
  made.push(plain("status", "status", "84px", "status"), plain("text", "reply", "minmax(240px, 3fr)", "text"));
  opened.scorers.forEach(({ name }) => made.push({ ...plain(`s:${name}`, name, "92px", name), numeric: true }));
  NUMBERS.slice(0, 4).forEach((name) => made.push({ ...plain(name, UNITS[name]!, "92px", name), numeric: true }));
  return made;
}

export function Sheet({ store, opened }: { store: Store; opened: Opened }) {
  const scroller = useRef<HTMLDivElement>(null);
  const query = store.query.value;
  const state = store.standing.value?.state ?? "";
  const { lines: count } = store.count.value;
  const columns = useMemo(() => columnsOf(opened, query.layout, store.scorer.value), [opened, query.layout, store.scorer.value]);
  const height = HEIGHT[query.layout];
  const { first, last, room, show } = useWindow(scroller, count, height, HEADER);
  const { line: active, column } = store.active.value;
  store.drawn.value; // draws again when a page has come
  useEffect(() => store.see(first, last), [first, last, count]);

  const cellAt = (line: number, at: number): Cell | undefined => {
    const found = store.line(line);
    const variant = columns[at]?.cell;
    return variant === undefined ? found?.cells[0] : found?.cells.find((each) => each.variant === variant);
  };
  const cellsAt = (line: number, at: number): number[] => {
    const found = columns[at]?.cell === undefined ? (store.line(line)?.cells ?? []) : [cellAt(line, at)];
    return found.flatMap((each) => (each ? [each.cell] : []));
  };
  const toggle = (cells: number[]) => {
    const now = new Set(store.selection.value);
    const all = cells.every((each) => now.has(each));
    for (const each of cells) all ? now.delete(each) : now.add(each);
    void store.select(now);
  };
  const move = (line: number, at: number, extend = false) => {
    const to = { line: Math.max(0, Math.min(count - 1, line)), column: Math.max(0, Math.min(columns.length - 1, at)) };
    const from = store.active.value;
    if (extend) void store.select([...store.selection.value, ...cellsAt(from.line, from.column), ...cellsAt(to.line, to.column)]);
    store.active.value = to;
    show(to.line);
    if (store.detail.value) {
      const cell = cellAt(to.line, to.column);
      if (cell) void store.open(cell.cell);
    }
  };
  const sort = (by: Column) => {
    if (!by.sort) return;
    const same = query.sort === by.sort && query.by === by.by;
    void store.look(same && query.descending ? { sort: "", by: -1, descending: false } : { sort: by.sort, by: by.by, descending: same });
  };
  const keyed = (event: KeyboardEvent) => {
    const { line: active, column } = store.active.value; // keys come faster than the page is drawn
    const leap = Math.max(1, Math.floor(room / height) - 1);
    const far = event.ctrlKey || event.metaKey;
    const moves: Record<string, [number, number]> = {
      ArrowDown: [active + 1, column],
      ArrowUp: [active - 1, column],
      ArrowRight: [active, column + 1],
      ArrowLeft: [active, column - 1],
      PageDown: [active + leap, column],
      PageUp: [active - leap, column],
      Home: far ? [0, 0] : [active, 0],
      End: far ? [count - 1, columns.length - 1] : [active, columns.length - 1],
    };
    const to = moves[event.key];
    if (to) move(...to, event.shiftKey);
    else if (event.key === "Enter") {
      const cell = cellAt(active, column);
      if (cell) void store.open(cell.cell);
    } else if (event.key === " ") toggle(cellsAt(active, column));
    else if (event.key === "a" && far) void store.selectAll();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const template = columns.map((each) => each.width).join(" ");
  const widest = columns.reduce((sum, each) => sum + Number(/\d+/.exec(each.width)?.[0] ?? 0), 0);
  const numbers = [];
  for (let at = first; at <= last; at++) numbers.push(at);
  const sorted = (each: Column) => query.sort !== "" && query.sort === each.sort && query.by === each.by;

  return (
    <div
      ref={scroller}
      class={`llg-sheet llg-${query.layout}`}
      role="grid"
      tabIndex={0}
      aria-label={`Cells of ${opened.name}`}
      aria-rowcount={count + 1}
      aria-colcount={columns.length}
      aria-multiselectable="true"
      style={{ height: `min(460px, 70vh, ${Math.max(120, HEADER + count * height + 18)}px)` }}
      aria-activedescendant={active >= first && active <= last ? `${store.id}-${active}-${column}` : undefined}
      onKeyDown={keyed}
    >
      <div style={{ minWidth: `${widest}px` }}>
        <div class="llg-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
          {columns.map((each, at) => (
            <div
              key={each.key}
              role="columnheader"
              aria-colindex={at + 1}
              aria-sort={sorted(each) ? (query.descending ? "descending" : "ascending") : each.sort ? "none" : undefined}
              class={each.numeric ? "llg-number" : undefined}
              title={each.title}
            >
              {each.key === "pick" ? (
                <span class="ll-said">selected</span>
              ) : each.sort ? (
                <button type="button" tabIndex={-1} onClick={() => sort(each)}>
                  {each.title}
                  <span aria-hidden="true">{sorted(each) ? (query.descending ? " ▼" : " ▲") : ""}</span>
                </button>
              ) : (
                each.title
              )}
            </div>
          ))}
        </div>
        <div role="presentation" style={{ height: `${count * height}px`, position: "relative" }}>
          {numbers.map((at) => (
            <Row
              key={at}
              at={at}
              line={store.line(at)}
              columns={columns}
              template={template}
              top={at * height}
              height={height}
              active={at === active ? column : -1}
              name={`${store.id}-${at}`}
              state={state}
              opened={opened}
              selection={store.selection.value}
              shown={store.detail.value?.cell ?? -1}
              scorer={store.scorer.value}
              mark={store.drawn.value}
              onPick={(column) => {
                store.active.value = { line: at, column };
                if (columns[column]?.key === "pick") toggle(cellsAt(at, column));
                else {
                  const cell = cellAt(at, column);
                  if (cell) void store.open(cell.cell);
                }
              }}
            />
          ))}
        </div>
      </div>
      {count === 0 && <p class="llg-empty ll-muted">{opened.total ? "No cell fits. Clear the filters to see all." : "This grid has no cells."}</p>}
    </div>
  );
}

const HEADER = 32;

interface RowGiven {
  at: number;
  line: Line | undefined;
  columns: Column[];
  template: string;
  top: number;
  height: number;
  active: number;
  name: string;
  state: string;
  opened: Opened;
  selection: ReadonlySet<number>;
  shown: number;
  scorer: string;
  mark: number;
  onPick: (column: number) => void;
}

function Row(given: RowGiven) {
  const { at, line, columns, active, selection, name } = given;
  const picked = line !== undefined && line.cells.length > 0 && line.cells.every((each) => selection.has(each.cell));
  const style = { gridTemplateColumns: given.template, transform: `translateY(${given.top}px)`, height: `${given.height}px` };
  return (
    <div role="row" aria-rowindex={at + 2} aria-selected={picked} class={`llg-row${picked ? " llg-picked" : ""}${at % 2 ? " llg-odd" : ""}`} style={style}>
      {columns.map((each, number) => {
        const cell = each.cell === undefined ? line?.cells[0] : line?.cells.find((one) => one.variant === each.cell);
        const marks = [
          active === number ? "llg-active" : "",
          each.numeric ? "llg-number" : "",
          cell && !cell.kept ? "llg-dim" : "",
          each.cell !== undefined && cell && selection.has(cell.cell) ? "llg-picked" : "",
          cell && cell.cell === given.shown && (each.cell !== undefined || each.key === "text") ? "llg-shown" : "",
        ];
        return (
          <div
            key={each.key}
            id={`${name}-${number}`}
            role="gridcell"
            aria-colindex={number + 1}
            aria-selected={each.cell !== undefined && cell ? selection.has(cell.cell) : undefined}
            class={marks.filter(Boolean).join(" ") || undefined}
            onClick={() => given.onPick(number)}
          >
            {line ? <Inside column={each} line={line} cell={cell} picked={picked} given={given} /> : number === 1 ? "…" : ""}
          </div>
        );
      })}
    </div>
  );
}

function Inside({ column, line, cell, picked, given }: { column: Column; line: Line; cell: Cell | undefined; picked: boolean; given: RowGiven }) {
  const { opened, state } = given;
  const { key } = column;
  const missing = state === "running" ? "…" : "unscored"; // a score may still come
  const scored = (name: string) => {
    const at = opened.scorers.findIndex((each) => each.name === name);
    return { scorer: opened.scorers[at], value: cell?.scores[at] ?? null };
  };
  if (key === "pick") return <span class="llg-box" role="img" aria-label={picked ? "selected" : "not selected"}>{picked ? "☑" : "☐"}</span>;
  if (key === "row") return <>{line.row}</>;
  if (key === "replicate") return <>{line.replicate + 1}</>;
  if (key === "asked") return <>{line.asked}</>;
  if (!cell) return <span class="ll-muted">{column.cell === undefined ? "" : "not there"}</span>;
  if (key === "prompt" || key === "model") return <>{opened.variants[cell.variant]?.[key === "prompt" ? 0 : 1]}</>;
  if (key === "status") return <span class={`llg-status llg-${cell.status}`}>{cell.status === "open" ? (state === "running" ? "pending" : "open") : cell.status}</span>;
  if (key.startsWith("s:")) return <Score {...scored(key.slice(2))} missing={cell.status === "ok" ? missing : ""} />;
  const which = NUMBERS.indexOf(key as (typeof NUMBERS)[number]);
  if (which >= 0) return <>{(key.endsWith("_s") ? seconds : number)(cell.numbers[which])}</>;
  return (
    <>
      <span class={cell.text === null ? (cell.status === "failed" ? "ll-bad" : "ll-muted") : "llg-reply"}>{reply(cell, state)}</span>
      {column.cell !== undefined && cell.status === "ok" && (
        <span class="llg-scores">
          {opened.scorers.map(
            (each, at) =>
              (opened.scorers.length <= MOST_SCORES || each.name === given.scorer) && (
                <Score key={each.name} name={opened.scorers.length > 1 ? each.name : ""} scorer={each} value={cell.scores[at] ?? null} missing={missing} />
              ),
          )}
        </span>
      )}
    </>
  );
}

function Score({ value, missing, name, scorer }: { value: number | null; missing: string; name?: string; scorer?: Opened["scorers"][number] | undefined }) {
  if (value === null) return <span class="ll-muted">{name ? `${name} ` : ""}{missing}</span>;
  // The best and the worst that a scorer can give; of one without bounds or a better direction no value is good or bad.
  const [low, high] = scorer?.bounds && scorer.higher !== null ? scorer.bounds : [];
  const ends = scorer?.higher ? { yes: high, no: low } : { yes: low, no: high };
  const tone = value === ends.yes ? "llg-yes" : value === ends.no ? "llg-no" : "";
  return (
    <span class={`llg-score ${tone}`}>
      {name && <span>{name} </span>}
      {number(value)}
    </span>
  );
}
