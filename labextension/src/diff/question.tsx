// What changed in the question: the prompts, or the models with their parameters.
import { How, OneSide, Parts, useDifference } from "./marked";
import type { Store } from "./store";

export function Question({ store }: { store: Store }) {
  const opened = store.opened.value!;
  const a = opened.variants[0]!;
  const b = opened.variants[store.pair.value + 1]!;
  const found = useDifference(a.text, b.text, false)!;
  const same = found.parts.every((part) => part.op === "equal");
  if (!a.text && !b.text) return <p class="ll-muted">The record of this grid does not have the text of its {opened.by}s.</p>;
  const title = (variant: typeof a) => (variant.version ? `${variant.name} (${variant.version})` : variant.name);
  if (store.inline.value)
    return (
      <article class="ll-side">
        <h4>
          {title(a)} → {title(b)}
        </h4>
        <How kind={found.kind} same={same} />
        <Parts parts={found.parts} />
      </article>
    );
  return (
    <>
      <How kind={found.kind} same={same} />
      <div class="ll-sides" style={{ "--ll-columns": 2 }}>
        <article class="ll-side">
          <h4>{title(a)}</h4>
          <OneSide parts={found.parts} only="delete" />
        </article>
        <article class="ll-side">
          <h4>{title(b)}</h4>
          <OneSide parts={found.parts} only="insert" />
        </article>
      </div>
    </>
  );
}
