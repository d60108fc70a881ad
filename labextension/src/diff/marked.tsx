// Texts with their differences marked: struck out and underlined, and said in words to those who do not see it.
import { useMemo } from "preact/hooks";
import { difference, shortened, type Part } from "./words";

const HOW = {
  words: "",
  lines: "The texts are long: whole lines are compared, not words.",
  json: "Compared as JSON: keys and values; white space and the order of keys do not count.",
  none: "The texts are too long to be compared here: they are shown as they are.",
};

/** One side: what is the same, and what only this side has. */
export function OneSide({ parts, only }: { parts: Part[]; only: "delete" | "insert" }) {
  return <Parts parts={parts.filter((part) => part.op === "equal" || part.op === only)} />;
}

export function Parts({ parts }: { parts: Part[] }) {
  if (!parts.some((part) => part.text)) return <span class="ll-muted">an empty text</span>;
  return (
    <div class="ll-plain">
      {parts.map((part) =>
        part.op === "equal" ? (
          part.text
        ) : part.op === "delete" ? (
          <del>
            <span class="ll-said">[removed: </span>
            {part.text}
            <span class="ll-said">]</span>
          </del>
        ) : (
          <ins>
            <span class="ll-said">[added: </span>
            {part.text}
            <span class="ll-said">]</span>
          </ins>
        ),
      )}
    </div>
  );
}

export function useDifference(a: string | null, b: string | null, json: boolean) {
  return useMemo(() => (a === null || b === null ? null : difference(a, b, json)), [a, b, json]);
}

export function How({ kind, same }: { kind: keyof typeof HOW; same: boolean }) {
  return (
    <>
      {same && <div class="ll-muted">{kind === "json" ? "The same keys and values." : "The same text."}</div>}
      {HOW[kind] && <div class="ll-muted">{HOW[kind]}</div>}
    </>
  );
}

export { shortened };
