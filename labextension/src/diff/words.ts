// What differs between two texts: by words, or by keys and values where both are JSON.
import { diffJson, diffLines, diffWordsWithSpace } from "diff";

export type Part = { op: "equal" | "delete" | "insert"; text: string };

export interface Difference {
  kind: "words" | "lines" | "json" | "none";
  parts: Part[];
}

const PATIENCE = 250; // milliseconds: then lines are compared, which is coarser and quicker
const FENCED = /^```[\w-]*\n([\s\S]*)\n```$/;
const INEXACT = /\d{16,}|\d\.\d{15,}|\de[+-]?\d{3,}/i; // a number that JavaScript may not hold as it is written

/** The object or array that a text is, alone or in one fence; undefined for any other text. */
export function asJson(text: string): object | undefined {
  const inside = FENCED.exec(text.trim())?.[1]?.trim() ?? text.trim();
  if (!/^[{[]/.test(inside) || INEXACT.test(inside)) return undefined;
  try {
    return JSON.parse(inside);
  } catch {
    return undefined;
  }
}

/** `json` false compares the texts as they are written, whatever they are. */
export function difference(a: string, b: string, json = true): Difference {
  if (json) {
    const left = asJson(a);
    const right = left && asJson(b);
    if (left && right) {
      try {
        return { kind: "json", parts: named(diffJson(left, right)) };
      } catch {
        // nested beyond what the comparison's own recursion holds: as text, then
      }
    }
  }
  const words = diffWordsWithSpace(a, b, { timeout: PATIENCE });
  if (words) return { kind: "words", parts: named(words) };
  const lines = diffLines(a, b, { timeout: PATIENCE });
  if (lines) return { kind: "lines", parts: named(lines) };
  return {
    kind: "none",
    parts: [
      { op: "delete", text: a },
      { op: "insert", text: b },
    ],
  };
}

function named(changes: { value: string; added?: boolean; removed?: boolean }[]): Part[] {
  return changes.map(({ value, added, removed }) => ({ op: added ? "insert" : removed ? "delete" : "equal", text: value }));
}

/** Long stretches that are the same on both sides, cut to their ends. */
export function shortened(parts: Part[], around = 120): Part[] {
  return parts.map((part, at) => {
    if (part.op !== "equal" || part.text.length <= 3 * around) return part;
    const head = at === 0 ? "" : part.text.slice(0, around);
    const tail = at === parts.length - 1 ? "" : part.text.slice(-around);
    return { op: "equal", text: `${head} … ${part.text.length - head.length - tail.length} characters that are the same … ${tail}` };
  });
}
