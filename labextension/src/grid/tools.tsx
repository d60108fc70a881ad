// What is looked for: search, filters, groups, layout.
import { useEffect, useRef, useState } from "preact/hooks";
import { isFiltered, several, variantName } from "./format";
import type { Store } from "./store";
import { type Opened, PLAIN } from "./wire";

const PAUSE = 250;

export function Tools({ store, opened }: { store: Store; opened: Opened }) {
  const query = store.query.value;
  const names = opened.variants.map((pair) => variantName(pair, opened.variants));
  const { cells } = store.count.value;
  const total = store.standing.value?.total ?? opened.total;
  const groups = [...opened.columns, "prompt", "model", "status", "finish reason"];
  return (
    <div class="llg-tools" role="search" aria-label="Find cells">
      <Search store={store} />
      <Choice label="show" value={query.shown} options={[["all", "all"], ["ok", "answered"], ["failed", "failed"], ["open", "not answered"], ["unscored", "unscored"]]} on={(shown) => store.look({ shown })} />
      {names.length > 1 && (
        <>
          <Choice label="differs from" value={String(query.differs)} options={[["-1", "–"], ...names.map((name, at): [string, string] => [String(at), name])]} on={(differs) => store.look({ differs: Number(differs) })} />
          {query.differs >= 0 && <Choice label="in" value={query.differs_in} options={[["text", "reply"], ...opened.scorers.map(({ name }): [string, string] => [name, name])]} on={(differs_in) => store.look({ differs_in })} />}
          {query.layout === "cells" && <Choice label="only" value={String(query.variant)} options={[["-1", "every variant"], ...names.map((name, at): [string, string] => [String(at), name])]} on={(variant) => store.look({ variant: Number(variant) })} />}
        </>
      )}
      {opened.scorers.length > 0 && <Range store={store} />}
      <Choice
        label="group by"
        value={store.by.value}
        options={[["", "–"], ...groups.map((name): [string, string] => [name, name])]}
        on={(by) => {
          store.by.value = by;
          store.groups.value = null; // they are groups of another column
          store.figure();
        }}
      />
      {names.length > 1 && <Choice label="lines" value={query.layout} options={[["rows", "a row, variants beside"], ["cells", "one a cell"]]} on={(layout) => store.look({ layout: layout as "rows" | "cells", sort: "", by: -1, variant: -1 })} />}
      <span class="llg-count" role="status">
        {isFiltered(query) ? `${cells.toLocaleString("en")} of ${several(total)}` : several(total)}
      </span>
      {query.where && <span class="llg-chip">{query.where[0]}: {query.where[1]}</span>}
      {isFiltered(query) && (
        <button type="button" onClick={() => void store.look({ ...PLAIN, layout: query.layout, sort: query.sort, descending: query.descending, by: query.by })}>
          Clear filters
        </button>
      )}
    </div>
  );
}

function Choice({ label, value, options, on }: { label: string; value: string; options: [string, string][]; on: (value: string) => unknown }) {
  return (
    <label>
      {label}{" "}
      <select value={value} onChange={(event) => void on(event.currentTarget.value)}>
        {options.map(([key, name]) => (
          <option key={key} value={key}>{name}</option>
        ))}
      </select>
    </label>
  );
}

function Search({ store }: { store: Store }) {
  const query = store.query.value;
  const [typed, setTyped] = useState(query.search);
  const timer = useRef(0);
  useEffect(() => {
    if (!query.search) setTyped("");
  }, [query.search]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const look = (search: string, regex: boolean) => {
    clearTimeout(timer.current);
    void store.look({ search, regex });
  };
  return (
    <span class="llg-search">
      <input
        type="search"
        value={typed}
        placeholder="Search replies and rows ( / )"
        aria-label="Search replies and rows"
        onInput={(event) => {
          const text = event.currentTarget.value;
          setTyped(text);
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => look(text, store.query.value.regex), PAUSE);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") look(typed, query.regex);
        }}
      />
      <label title="The search is a regular expression">
        <input type="checkbox" checked={query.regex} onChange={(event) => look(typed, event.currentTarget.checked)} /> regex
      </label>
    </span>
  );
}

function Range({ store }: { store: Store }) {
  const query = store.query.value;
  const scorer = (query.low !== null || query.high !== null) && query.scorer ? query.scorer : store.scorer.value;
  const bound = (which: "low" | "high") => (
    <input
      type="number"
      step="any"
      value={query[which] ?? ""}
      placeholder={which === "low" ? "from" : "to"}
      aria-label={`${scorer} ${which === "low" ? "from" : "to"}`}
      onChange={(event) => void store.look({ [which]: event.currentTarget.value === "" ? null : event.currentTarget.valueAsNumber, scorer })}
    />
  );
  return (
    <span class="llg-range">
      {scorer} {bound("low")} – {bound("high")}
    </span>
  );
}
