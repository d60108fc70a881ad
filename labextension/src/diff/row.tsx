// One row: what each variant answered, side by side or in one text, with what is known of the row.
import { How, OneSide, Parts, useDifference } from "./marked";
import { flipWord, scores, short } from "./list";
import type { Store } from "./store";
import type { Cell, Line, Row } from "./wire";

export function Detail({ store }: { store: Store }) {
  const row = store.row.value;
  const opened = store.opened.value;
  if (!row || !opened || !store.total.value) return <div class="ll-detail ll-muted">No row to show.</div>;
  const line = row.pairs[store.pair.value];
  const replies = Math.max(0, ...row.variants.map((cells) => cells.length));
  return (
    <section class="ll-detail" aria-label={`Row ${row.id}`} tabIndex={0}>
      <div class="ll-detail-head">
        <b>{row.id}</b>
        <span class="ll-muted">
          {store.at.value + 1} of {store.total.value}
        </span>
        <button onClick={() => void store.select(store.at.value - 1)} disabled={store.at.value === 0} title="K">
          ← Before
        </button>
        <button onClick={() => void store.select(store.at.value + 1)} disabled={store.at.value >= store.total.value - 1} title="J">
          Next →
        </button>
        <button aria-pressed={store.inline.value} onClick={() => (store.inline.value = !store.inline.value)} title="D">
          In one text
        </button>
        <button aria-pressed={store.asText.value} onClick={() => (store.asText.value = !store.asText.value)} title="T">
          JSON as text
        </button>
        {replies > 1 && <Replies store={store} replies={replies} />}
      </div>
      {line && <Flipped line={line} />}
      <Values row={row} note={opened.values_note} />
      <Sides store={store} row={row} />
    </section>
  );
}

function Replies({ store, replies }: { store: Store; replies: number }) {
  return (
    <label>
      Reply{" "}
      <select value={store.reply.value} onChange={(event) => (store.reply.value = Number(event.currentTarget.value))} title="[ and ]">
        {Array.from({ length: replies }, (_, at) => (
          <option value={at}>
            {at + 1} of {replies}
          </option>
        ))}
      </select>
    </label>
  );
}

const FLIPPED = {
  change: "This flip repeats: the replicates of each side agree, or differ more than chance would have it.",
  noise: "This flip does not repeat: the replicates of a side disagree among themselves, so it may be noise.",
  "unknown: one replicate": "Unknown whether this flip would repeat: one replicate. Ask with repeats=3 or more to know.",
};

function Flipped({ line }: { line: Line }) {
  if (!line.flip || !line.passed) return null;
  const [a, of, b, ofB] = line.passed;
  return (
    <div class="ll-flipped">
      {FLIPPED[line.flip]} Passed: {a} of {of} → {b} of {ofB}.
    </div>
  );
}

/** Short values stand in a line, longer ones below each other. */
function Values({ row, note }: { row: Row; note: string }) {
  if (!row.values.length) return note ? <div class="ll-muted">{note[0]!.toUpperCase() + note.slice(1)}.</div> : null;
  return (
    <dl class="ll-values" aria-label="The row">
      {row.values
        .filter(([name]) => name !== "id")
        .map(([name, text]) => (
          <div class={text.length > 60 || text.includes("\n") ? "ll-value-long" : ""}>
            <dt>{name}</dt>
            <dd class="ll-plain" tabIndex={text.length > 400 ? 0 : undefined}>
              {text}
            </dd>
          </div>
        ))}
    </dl>
  );
}

function Sides({ store, row }: { store: Store; row: Row }) {
  const names = store.opened.value!.variants.map((variant) => variant.name);
  const cells = row.variants.map((all) => all[Math.min(store.reply.value, all.length - 1)]);
  const base = cells[0];
  const focus = store.pair.value + 1;
  const others = cells.map((cell, at) => ({ cell, at })).slice(1);
  return (
    <div class="ll-sides" style={{ "--ll-columns": store.inline.value ? others.length : cells.length }}>
      {!store.inline.value && base && <Base name={names[0]!} against={others.length > 1 ? names[focus]! : ""} cell={base} other={cells[focus]} json={!store.asText.value} />}
      {others.map(({ cell, at }) => cell && <Other key={at} name={names[at]!} base={base} cell={cell} line={row.pairs[at - 1]} store={store} focused={others.length > 1 && at === focus} />)}
    </div>
  );
}

function Base(given: { name: string; against: string; cell: Cell; other: Cell | undefined; json: boolean }) {
  const { cell, other } = given;
  const found = useDifference(cell.text, other?.text ?? null, given.json);
  return (
    <article class="ll-side">
      <Head name={given.name} cell={cell} note={given.against ? `baseline; marked against ${given.against}` : "baseline"} />
      {cell.text === null ? <Missing cell={cell} /> : found && found.kind !== "none" ? <OneSide parts={found.parts} only="delete" /> : <Parts parts={[{ op: "equal", text: cell.text }]} />}
    </article>
  );
}

function Other(given: { name: string; base: Cell | undefined; cell: Cell; line: Line | undefined; store: Store; focused: boolean }) {
  const { cell, base, store } = given;
  const found = useDifference(base?.text ?? null, cell.text, !store.asText.value);
  const same = found !== null && found.parts.every((part) => part.op === "equal");
  return (
    <article class={given.focused ? "ll-side ll-focused" : "ll-side"}>
      <Head name={given.name} cell={cell} note={given.line ? [given.line.outcome, scores(given.line), flipWord(given.line)].filter(Boolean).join(", ") : ""} />
      {cell.text === null ? (
        <Missing cell={cell} />
      ) : !found ? (
        <>
          {store.inline.value && base && <Missing cell={base} />}
          <Parts parts={[{ op: "equal", text: cell.text }]} />
        </>
      ) : (
        <>
          <How kind={found.kind} same={same} />
          {store.inline.value ? <Parts parts={found.parts} /> : found.kind === "none" ? <Parts parts={[{ op: "equal", text: cell.text }]} /> : <OneSide parts={found.parts} only="insert" />}
        </>
      )}
    </article>
  );
}

function Head({ name, cell, note }: { name: string; cell: Cell; note: string }) {
  const score = typeof cell.score === "number" ? short(cell.score) : cell.score === null ? "" : cell.score ? "true" : "false";
  const facts = [cell.model, score && `score ${score}`, cell.finish_reason === "length" && "cut by the token limit", cell.latency_s !== null && `${cell.latency_s.toFixed(2)} s`];
  return (
    <header>
      <h4>{name}</h4> <span class="ll-muted">{note}</span>
      <div class="ll-muted">{facts.filter(Boolean).join(" · ")}</div>
      {cell.text !== null && cell.score === null && cell.score_note && <div class="ll-warn">Not scored: {cell.score_note}</div>}
    </header>
  );
}

function Missing({ cell }: { cell: Cell }) {
  return (
    <div class="ll-bad">
      No reply: {cell.status}
      {cell.error && ` (${cell.error})`}.
    </div>
  );
}
