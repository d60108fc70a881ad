// Variants of the same rows side by side.
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Host } from "../kit/host";
import "./diff.css";
import { List } from "./list";
import { Question } from "./question";
import { Detail } from "./row";
import { Scores } from "./scores";
import { SlicesTab } from "./slices";
import { Store, TABS, type Tab } from "./store";
import type { Filter, Opened } from "./wire";

const NAMES: Record<Tab, string> = { rows: "Rows", slices: "Slices", question: "Question", scores: "Scores" };
const CHIPS: [Filter, string][] = [
  ["all", "All"],
  ["worse", "Worse"],
  ["better", "Better"],
  ["equal", "Equal"],
  ["different", "Other text"],
  ["missing", "Missing"],
];
const FLIPS: [Filter, string][] = [
  ["flips", "Flips"],
  ["change", "that repeat (change)"],
  ["noise", "that do not (noise)"],
  ["unknown", "unknown: one replicate"],
];
const KEYS: [string, string][] = [
  ["J K", "next row, row before (also the arrows)"],
  ["A W B E", "all rows, worse, better, equal"],
  ["F", "only flips, and all again"],
  ["X M", "rows with other text, rows with something missing"],
  ["D", "differences in one text, or side by side"],
  ["T", "JSON as text, or by keys and values"],
  ["[ ]", "reply before, next reply (repeats)"],
  ["1 – 9", "which variant against the baseline"],
  ["R S P H", "rows, slices, the question, scores"],
  ["O", "rows in their own order, or by change"],
  ["/", "search; Escape leaves it"],
  ["?", "this help"],
];

export function DiffView({ host }: { host: Host }) {
  const store = useMemo(() => new Store(host), [host]);
  const search = useRef<HTMLInputElement>(null);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => void store.open(), [store]);
  const opened = store.opened.value;
  return (
    <div class="ll-diff" ref={root} tabIndex={-1} role="group" aria-label="Side by side" onKeyDown={(event) => pressed(event, store, search.current)}>
      {store.trouble.value && (
        <div class="ll-error" role="alert">
          {store.trouble.value}
        </div>
      )}
      {opened ? <Whole store={store} opened={opened} search={search} /> : !store.trouble.value && <p class="ll-muted">Loading …</p>}
      <Focus store={store} root={root} />
    </div>
  );
}

function Whole({ store, opened, search }: { store: Store; opened: Opened; search: { current: HTMLInputElement | null } }) {
  return (
    <>
      <Verdicts store={store} opened={opened} />
      <Chips store={store} opened={opened} />
      <div class="ll-bar">
        {TABS.map((tab) => (
          <button aria-pressed={store.tab.value === tab} onClick={() => void store.showTab(tab)}>
            {NAMES[tab]}
          </button>
        ))}
        {host(store) !== "embedded" && (
          <input
            ref={search}
            type="search"
            placeholder="Search rows and replies"
            aria-label="Search rows and replies"
            value={store.search.value}
            onChange={(event) => void store.list(() => ((store.search.value = event.currentTarget.value), (store.tab.value = "rows")))}
          />
        )}
        <button aria-expanded={store.help.value} onClick={() => (store.help.value = !store.help.value)} title="?">
          Keys
        </button>
      </div>
      {store.help.value && <Help />}
      {store.tab.value === "rows" && <RowsTab store={store} />}
      {store.tab.value === "slices" && <SlicesTab store={store} />}
      {store.tab.value === "question" && <Question store={store} />}
      {store.tab.value === "scores" && <Scores opened={opened} />}
      <Said store={store} />
    </>
  );
}

const host = (store: Store) => store.host.kind;

function Verdicts({ store, opened }: { store: Store; opened: Opened }) {
  return (
    <div class="ll-verdicts">
      {opened.note && <p class="ll-warn">{opened.note[0]!.toUpperCase() + opened.note.slice(1)}</p>}
      {opened.pairs.map((pair, number) => {
        const said = pair.verdict ? pair.verdict.sentence : `${pair.b} against ${pair.a}`;
        const [outcome, ...rest] = said.split(":");
        const text = pair.verdict ? (
          <>
            <b class={`ll-verdict ll-${outcome}`}>{outcome}</b>:{rest.join(":")}
          </>
        ) : (
          said
        );
        return opened.pairs.length > 1 ? (
          <button class="ll-verdict-button" aria-pressed={store.pair.value === number} onClick={() => void store.showPair(number)} title={String(number + 1)}>
            {text}
          </button>
        ) : (
          <p>{text}</p>
        );
      })}
    </div>
  );
}

function Chips({ store, opened }: { store: Store; opened: Opened }) {
  const counts = store.comparison.value!.counts;
  const directed = opened.scorer?.higher_is_better !== null;
  const word = (name: Filter, label: string) => (directed ? label : ({ worse: "Lower", better: "Higher" } as Partial<Record<Filter, string>>)[name] ?? label);
  const chip = ([name, label]: [Filter, string]) => (
    <button class="ll-chip" aria-pressed={store.filter.value === name} onClick={() => choose(store, name)}>
      {word(name, label)} <b>{counts[name].toLocaleString("en")}</b>
    </button>
  );
  const scored = CHIPS.filter(([name]) => opened.scorer || name === "all" || name === "different" || name === "missing");
  return (
    <>
      <div class="ll-bar" role="group" aria-label="Which rows">
        {scored.filter(([name]) => name === "all" || name === "different" || counts[name] > 0).map(chip)}
      </div>
      {opened.flips_note ? (
        opened.scorer && <div class="ll-muted">{opened.flips_note[0]!.toUpperCase() + opened.flips_note.slice(1)}</div>
      ) : (
        <div class="ll-bar" role="group" aria-label="Rows whose outcome changed">
          {FLIPS.filter(([name]) => name === "flips" || counts[name] > 0).map(chip)}
          {counts.unknown > 0 && counts.unknown === counts.flips && <span class="ll-muted">One reply a row: repeats would tell change from noise.</span>}
        </div>
      )}
    </>
  );
}

function choose(store: Store, filter: Filter): void {
  void store.list(() => {
    store.filter.value = filter;
    store.tab.value = "rows";
  });
}

function RowsTab({ store }: { store: Store }) {
  const slice = store.slice.value;
  const cut = store.all.value > store.total.value;
  return (
    <>
      {slice && (
        <div class="ll-bar">
          In the slice <b>{slice.slice}</b>
          <button onClick={() => void store.list(() => (store.slice.value = null))}>All slices</button>
        </div>
      )}
      {cut && (
        <div class="ll-muted">
          The first {store.total.value} of {store.all.value} rows are in this file.
        </div>
      )}
      <div class="ll-panes">
        {store.total.value ? <List store={store} /> : <p class="ll-muted ll-list">No such rows.</p>}
        <Detail store={store} />
      </div>
    </>
  );
}

function Help() {
  return (
    <dl class="ll-keys">
      {KEYS.map(([keys, what]) => (
        <>
          <dt>
            {keys.split(" ").map((key) => (
              <kbd>{key}</kbd>
            ))}
          </dt>
          <dd>{what}</dd>
        </>
      ))}
    </dl>
  );
}

/** When what had the focus is drawn no more, the view has it: else the next key would go to the notebook. */
function Focus({ store, root }: { store: Store; root: { current: HTMLElement | null } }) {
  const inside = useRef(false);
  const hold = () => {
    if (inside.current && document.activeElement === document.body) root.current?.focus({ preventScroll: true });
  };
  useEffect(() => {
    const element = root.current!;
    const entered = () => (inside.current = true);
    const left = ({ target, relatedTarget }: FocusEvent) => {
      if (relatedTarget) inside.current = element.contains(relatedTarget as Node);
      else {
        // Nothing has the focus now: somebody clicked elsewhere, or the element is being taken away (Chromium says so, others say nothing).
        setTimeout(() => ((target as Node).isConnected ? (inside.current = element.contains(document.activeElement)) : hold()));
      }
    };
    element.addEventListener("focusin", entered);
    element.addEventListener("focusout", left);
    return () => {
      element.removeEventListener("focusin", entered);
      element.removeEventListener("focusout", left);
    };
  }, [root]);
  useEffect(hold, [store.opened, store.tab, store.slice, store.total, store.row, store.slices, store.pair].map((each) => each.value));
  return null;
}

/** What a reader of the screen hears as the rows go by. */
function Said({ store }: { store: Store }) {
  const line = store.line(store.at.value);
  const told = !line ? (store.total.value ? "" : "no rows") : `row ${line.id}, ${store.at.value + 1} of ${store.total.value}: ${line.outcome}${line.flip ? `, flip, ${line.flip}` : ""}`;
  return (
    <div class="ll-said" role="status">
      {store.tab.value === "rows" && told}
    </div>
  );
}

const CHOICES: Record<string, Filter> = { a: "all", w: "worse", b: "better", e: "equal", x: "different", m: "missing" };
const PLACES: Record<string, Tab> = { r: "rows", s: "slices", p: "question", h: "scores" };

function pressed(event: KeyboardEvent, store: Store, search: HTMLInputElement | null): void {
  if (event.ctrlKey || event.metaKey || event.altKey || !store.opened.value) return;
  const target = event.target as HTMLElement;
  if (target === search && event.key === "Escape") {
    search.value = "";
    search.closest<HTMLElement>(".ll-diff")?.focus();
    void store.list(() => (store.search.value = ""));
    return;
  }
  if (/^(?:INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
  const key = event.key.toLowerCase();
  const scrolls = target.closest(".ll-detail, .ll-scroll") !== null; // there the arrows scroll
  if (key === "j" || (key === "arrowdown" && !scrolls)) void store.select(store.at.value + 1);
  else if (key === "k" || (key === "arrowup" && !scrolls)) void store.select(store.at.value - 1);
  else if (key === "f") choose(store, store.filter.value === "flips" ? "all" : "flips");
  else if (CHOICES[key]) choose(store, CHOICES[key]);
  else if (PLACES[key]) void store.showTab(PLACES[key]);
  else if (key === "d") store.inline.value = !store.inline.value;
  else if (key === "t") store.asText.value = !store.asText.value;
  else if (key === "o") void store.list(() => (store.planOrder.value = !store.planOrder.value));
  else if (key === "[" || key === "]") turn(store, key === "]" ? 1 : -1);
  else if (/^[1-9]$/.test(key)) void store.showPair(Number(key) - 1);
  else if (key === "?") store.help.value = !store.help.value;
  else if (key === "escape") store.help.value = false;
  else if (key === "/") search?.focus();
  else return;
  event.preventDefault();
}

function turn(store: Store, by: number): void {
  const replies = Math.max(1, ...(store.row.value?.variants.map((cells) => cells.length) ?? []));
  store.reply.value = (store.reply.value + by + replies) % replies;
}
