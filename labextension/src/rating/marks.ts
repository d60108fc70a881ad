/** Where two texts differ, word by word. */

import { diffArrays } from "diff";

export interface Part {
  text: string;
  differs: boolean;
}

/** Texts that differ more than this are not compared: it would hold up the page and tell nothing. */
const PATIENCE_MS = 400;

const WORDS = /[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu;

/** Both texts in parts; null when they are too different. */
export function marks(one: string, other: string): [Part[], Part[]] | null {
  const changes = diffArrays(one.match(WORDS) ?? [], other.match(WORDS) ?? [], { timeout: PATIENCE_MS });
  if (!changes) return null;
  const left = changes.filter((change) => !change.added).map((change) => ({ text: change.value.join(""), differs: change.removed }));
  const right = changes.filter((change) => !change.removed).map((change) => ({ text: change.value.join(""), differs: change.added }));
  return [left, right];
}
