// The view of a grid: how it stands, what it came to, its cells, and one of them whole.
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useKeptFocus } from "../kit/focus";
import type { Host } from "../kit/host";
import { Deeds } from "./deeds";
import { DetailPane } from "./detail";
import { Figures, GroupTable } from "./figures";
import { money, several } from "./format";
import { Sheet } from "./sheet";
import { Store } from "./store";
import { Tools } from "./tools";
import type { Opened } from "./wire";
import "./grid.css";

export function GridView({ host }: { host: Host }) {
  const store = useMemo(() => new Store(host), [host]);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    void store.begin();
    return () => store.end();
  }, [store]);
  const { onFocusIn, onFocusOut } = useKeptFocus(root, () => root.current?.querySelector<HTMLElement>("[role=grid]"));
  const opened = store.opened.value;
  const keyed = (event: KeyboardEvent) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === "/" && !typing) {
      root.current?.querySelector<HTMLInputElement>("input[type=search]")?.focus();
      event.preventDefault();
    } else if (event.key === "Escape") {
      if (typing) root.current?.querySelector<HTMLElement>("[role=grid]")?.focus();
      else if (store.detail.value) {
        store.detail.value = null;
        root.current?.querySelector<HTMLElement>("[role=grid]")?.focus();
      } else if (store.selection.value.size) void store.select([]);
    }
  };
  const { problem } = store;
  return (
    <div class="llg" ref={root} onKeyDown={keyed} onFocusIn={onFocusIn} onFocusOut={onFocusOut}>
      {!opened && !problem.value && <p class="ll-muted">Reading the grid …</p>}
      {opened && <Head store={store} opened={opened} />}
      {opened && <Figures store={store} opened={opened} />}
      {opened && <Tools store={store} opened={opened} />}
      {problem.value && <p class="ll-error" role="alert">{problem.value}</p>}
      {opened && <GroupTable store={store} opened={opened} />}
      {opened && (
        <div class={store.detail.value ? "llg-both" : ""}>
          <Sheet store={store} opened={opened} />
          <DetailPane store={store} />
        </div>
      )}
      {store.selection.value.size > 0 && (
        <div class="llg-selected">
          <strong>{store.selection.value.size.toLocaleString("en")} selected</strong> <span class="ll-muted">g.selected() has them</span>
          <button type="button" onClick={() => void store.select([])}>Clear selection</button>
          <Deeds store={store} cells={[...store.selection.value]} />
        </div>
      )}
      {opened && <p class="llg-help ll-muted">arrows move · Enter opens · Space selects · Ctrl+A selects all found · / searches · Escape closes</p>}
    </div>
  );
}

function Head({ store, opened }: { store: Store; opened: Opened }) {
  const { state, counts, total, cost, can_cancel, can_resume, ready, share, broken } = store.standing.value ?? opened;
  const verdict = store.summary.value?.verdict;
  const done = (counts?.ok ?? 0) + (counts?.failed ?? 0);
  const some = (count: number | undefined, what: string) => (count ? `${count.toLocaleString("en")} ${what}` : "");
  const parts = counts
    ? [`${counts.ok!.toLocaleString("en")} of ${total.toLocaleString("en")} answered`, some(counts.failed, "failed"), state === "running" ? "" : some(counts.open, "not asked"), cost ? money(cost) : ""]
    : [several(total), broken || `reading them: ${Math.round(share * 100)} %`];
  const act = (method: string) => void store.tried(async () => void (await store.act(method, {})));
  return (
    <header class="llg-title">
      <strong>{opened.name}</strong> <span class={`llg-state llg-state-${state}`}>{state}</span>
      <span class="ll-muted">{parts.filter(Boolean).join(" · ")}</span>
      {(state === "running" || !ready) && (
        <progress aria-label={ready ? "cells done" : "cells read"} value={ready ? done : share * total} max={Math.max(1, total)} />
      )}
      {can_cancel && <button type="button" onClick={() => act("cancel")}>Cancel</button>}
      {can_resume && <button type="button" onClick={() => act("resume")}>Resume</button>}
      {opened.note && <p class="ll-warn">{opened.note}</p>}
      {verdict && (
        <p class="llg-verdict">
          {verdict.outcome ? <Said outcome={verdict.outcome} text={verdict.text} /> : <span class="ll-muted">{verdict.text}</span>}
          {verdict.note && <span class="ll-muted"> {verdict.note}</span>}
        </p>
      )}
    </header>
  );
}

/** The sentence begins with its outcome, which is set apart. */
function Said({ outcome, text }: { outcome: string; text: string }) {
  const tone = outcome === "better" ? "ll-good" : outcome === "worse" ? "ll-bad" : "";
  return (
    <>
      verdict: <b class={tone}>{outcome}</b>
      {text.startsWith(outcome) ? text.slice(outcome.length) : `: ${text}`}
    </>
  );
}
