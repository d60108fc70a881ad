// The rows, one line each; only those that can be seen are in the page.
import { useEffect, useRef } from "preact/hooks";
import type { Store } from "./store";
import { rounded } from "../kit/rounded";
import { useWindow } from "../kit/window";
import type { Line } from "./wire";

const HEIGHT = 48;
const SIGN = { better: "▲", worse: "▼", equal: "=", missing: "∅" };
/** Without a better direction a score is only higher or lower. */
const HIGHER = { better: "higher", worse: "lower", equal: "equal", missing: "missing" };

export function List({ store }: { store: Store }) {
  const scroller = useRef<HTMLDivElement>(null);
  const count = store.total.value;
  const seen = useWindow(scroller, count, HEIGHT);
  const chosen = store.at.value;
  useEffect(() => store.need(seen.first, seen.last), [seen.first, seen.last, store.loaded.value]);
  useEffect(() => seen.show(chosen), [chosen, count]);
  const directed = store.opened.value?.scorer?.higher_is_better !== null;
  const lines = [];
  for (let at = seen.first; at <= seen.last; at++) lines.push(at);
  return (
    <div class="ll-list" ref={scroller}>
      <div
        role="listbox"
        tabIndex={0}
        aria-label="Rows"
        aria-activedescendant={chosen >= seen.first && chosen <= seen.last ? `${store.id}-${chosen}` : undefined}
        style={{ height: `${count * HEIGHT}px`, position: "relative" }}
      >
        {lines.map((at) => {
          const line = store.line(at);
          return (
            <div
              key={at}
              id={`${store.id}-${at}`}
              role="option"
              aria-selected={at === chosen}
              aria-setsize={count}
              aria-posinset={at + 1}
              class="ll-line"
              style={{ height: `${HEIGHT}px`, transform: `translateY(${at * HEIGHT}px)` }}
              onClick={() => void store.select(at)}
            >
              {line ? <OneLine line={line} directed={directed} /> : <span class="ll-muted">…</span>}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function OneLine({ line, directed }: { line: Line; directed: boolean }) {
  const word = directed ? line.outcome : HIGHER[line.outcome];
  return (
    <>
      <div class="ll-line-head">
        <span class={`ll-outcome ll-${line.outcome}`}>
          <span aria-hidden="true">{SIGN[line.outcome]} </span>
          {word}
        </span>
        <span class="ll-id">{line.id}</span>
        <span class="ll-score">{scores(line)}</span>
      </div>
      <div class="ll-title">
        {line.flip && <span class="ll-flip">{flipWord(line)}</span>} {line.title || TEXTS[line.texts]}
      </div>
    </>
  );
}

const TEXTS = { same: "same text", "same JSON": "same JSON", different: "other text", missing: "a reply is missing" };

/** What is said of a flip in a few words. */
export function flipWord(line: Line): string {
  if (!line.flip) return "";
  return { change: "flip: repeats", noise: "flip: noise", "unknown: one replicate": "flip" }[line.flip];
}

export function scores(line: Line): string {
  return line.a === null && line.b === null ? "" : `${short(line.a)} → ${short(line.b)}`;
}

export function short(value: number | null): string {
  return value === null ? "–" : rounded(value);
}
