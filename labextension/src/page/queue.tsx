// A rating queue to be read, in a file: what was rated and, once it is closed, who made it and what was said.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Host } from "../kit/host";
import { Plain } from "../kit/text";
import { spoken } from "../rating/sides";
import { type Pane, PANES, Texts } from "../rating/texts";
import type { Level, Mode, Task, Value } from "../rating/wire";

interface Rating {
  rater: string;
  again: boolean;
  value: Value | null;
  comment: string | null;
  flag: boolean;
  skip: string | null;
  correction: string | null;
}

interface Line {
  task: Task;
  ratings: Rating[];
  /** the side's letter -> who made it; only when the queue is closed */
  by?: Record<string, string>;
  settled?: { value: Value; reason: string | null; by: string } | null;
  gold?: Value | null;
}

interface Readable {
  name: string;
  mode: Mode;
  question: string;
  levels: Level[];
  guide: string;
  closed: boolean;
  story: string;
  items: Line[];
}

const STEP = 25;
const FILTERS: Record<string, { text: string; keeps: (line: Line) => boolean }> = {
  all: { text: "all items", keeps: () => true },
  differing: { text: "raters differ", keeps: (line) => new Set(values(line)).size > 1 },
  flagged: { text: "flagged", keeps: (line) => line.ratings.some((each) => each.flag) },
  remarked: { text: "with a comment or correction", keeps: (line) => line.ratings.some((each) => each.comment || each.correction) },
  skipped: { text: "skipped by somebody", keeps: (line) => line.ratings.some((each) => each.skip !== null) },
  settled: { text: "settled", keeps: (line) => Boolean(line.settled) },
  unrated: { text: "without a rating", keeps: (line) => !values(line).length },
};
const ORDERS: Record<string, string> = { plan: "in the queue's order", item: "by item", length: "longest first", values: "by value" };

const values = (line: Line): string[] => line.ratings.filter((each) => each.value !== null).map((each) => String(each.value));
const length = (line: Line): number => line.task.sides.reduce((sum, side) => sum + side.text.length, 0);
const compare = new Intl.Collator("en", { numeric: true }).compare;

function texts(line: Line): string {
  const { item, prompt, sources, sides } = line.task;
  const said = line.ratings.flatMap((each) => [each.rater, each.comment ?? "", each.correction ?? "", each.skip ?? ""]);
  return [item, prompt, ...sources.map((each) => each.text), ...sides.map((each) => each.text), ...said].join("\n").toLowerCase();
}

function ordered(lines: Line[], order: string): Line[] {
  if (order === "item") return [...lines].sort((one, other) => compare(one.task.item, other.task.item));
  if (order === "length") return [...lines].sort((one, other) => length(other) - length(one));
  if (order === "values") return [...lines].sort((one, other) => compare(values(one).sort().join() || "\uffff", values(other).sort().join() || "\uffff"));
  return lines;
}

export function QueueView({ host }: { host: Host }) {
  const [queue, setQueue] = useState<Readable | null>(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    host.call<Readable>("open").then(
      (answer) => setQueue(answer.data),
      (error: Error) => setTrouble(error.message),
    );
  }, [host]);
  if (trouble) return <p class="ll-error">{trouble}</p>;
  return queue && <Reading queue={queue} />;
}

function Reading({ queue }: { queue: Readable }) {
  const [search, setSearch] = useState("");
  const [filter, setFilter] = useState("all");
  const [order, setOrder] = useState("plan");
  const [pane, setPane] = useState<Pane>("markdown");
  const [many, setMany] = useState(STEP);
  const searched = useMemo(() => new Map(queue.items.map((line) => [line, texts(line)])), [queue]);
  const lines = useMemo(() => {
    const keeps = FILTERS[filter]?.keeps ?? (() => true);
    return ordered(
      queue.items.filter((line) => keeps(line) && searched.get(line)?.includes(search.toLowerCase())),
      order,
    );
  }, [queue, search, filter, order]);
  const look = (change: () => void) => {
    change();
    setMany(STEP);
  };
  return (
    <div class="lp-queue">
      <h1>{queue.name}</h1>
      <p class="lp-question">{queue.question}</p>
      {queue.levels.length > 0 && (
        <dl class="lr-levels">
          {queue.levels.map((level) => (
            <>
              <dt>{level.value}</dt>
              <dd>{level.text}</dd>
            </>
          ))}
        </dl>
      )}
      {queue.guide && (
        <details class="lr-box">
          <summary>Guide</summary>
          <Plain text={queue.guide} />
        </details>
      )}
      <p class="ll-muted">
        A copy to be read; {queue.story}.{" "}
        {!queue.closed && "The queue is open: who made the replies, and what was said of them, is not in this file. Sides stand in a drawn order."}
      </p>
      <div class="lr-row lp-tools" role="search">
        <input type="search" placeholder="Search texts" aria-label="Search texts" value={search} onInput={({ currentTarget: { value } }) => look(() => setSearch(value))} />
        {queue.closed && <Select label="Which items" value={filter} onChange={(name) => look(() => setFilter(name))} options={Object.entries(FILTERS).map(([name, { text }]) => [name, text])} />}
        <Select label="Order" value={order} onChange={(name) => look(() => setOrder(name))} options={Object.entries(ORDERS).filter(([name]) => queue.closed || name !== "values")} />
        <Select label="How texts are shown" value={pane} onChange={(name) => setPane(name as Pane)} options={PANES.map((name) => [name, name])} />
        <span role="status">
          {lines.length.toLocaleString("en")} of {queue.items.length.toLocaleString("en")} items
        </span>
      </div>
      {lines.slice(0, many).map((line) => (
        <Item key={line.task.item} queue={queue} line={line} pane={pane} />
      ))}
      {lines.length > many && (
        <button type="button" onClick={() => setMany(many + STEP)}>
          Show {Math.min(STEP, lines.length - many)} more
        </button>
      )}
    </div>
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}

function Select({ label, value, options, onChange }: SelectProps) {
  return (
    <select aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      {options.map(([name, text]) => (
        <option value={name}>{text}</option>
      ))}
    </select>
  );
}

function Item({ queue, line, pane }: { queue: Readable; line: Line; pane: Pane }) {
  const { task, by, settled, gold } = line;
  const named = (value: Value | null) => spoken(queue.mode, value, task.side_order);
  return (
    <article class="lr-item lp-item">
      <h2>{task.item}</h2>
      <Texts task={task} pane={pane} differences={false} open={false} />
      {by && (
        <p class="ll-muted">
          {Object.entries(by)
            .map(([side, name]) => (task.sides.length > 1 ? `${side} is ${name}` : `by ${name}`))
            .join(" · ")}
        </p>
      )}
      {line.ratings.length > 0 && (
        <table class="lp-said">
          <thead>
            <tr>
              <th>rater</th>
              <th>value</th>
              <th>comment</th>
              <th>correction</th>
            </tr>
          </thead>
          <tbody>
            {line.ratings.map((each) => (
              <tr>
                <td>
                  {each.rater}
                  {each.again && " (shown again)"}
                </td>
                <td>
                  {each.skip === null ? named(each.value) : `skipped: ${each.skip}`}
                  {each.flag && " ⚑"}
                </td>
                <td>{each.comment}</td>
                <td>{each.correction}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {settled && (
        <p>
          Settled by {settled.by}: <b>{named(settled.value)}</b>
          {settled.reason && ` (${settled.reason})`}
        </p>
      )}
      {gold !== null && gold !== undefined && <p class="ll-muted">Known value: {named(gold)}</p>}
    </article>
  );
}
