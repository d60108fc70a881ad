/** Where two texts differ, word by word. */

import { diffWordsWithSpace } from "diff";

export interface Part {
  text: string;
  differs: boolean;
}

/** Texts that differ more than this are not compared: it would hold up the page and tell nothing. */
const PATIENCE_MS = 400;

/** Both texts in parts; null when they are too different. */
export function marks(one: string, other: string): [Part[], Part[]] | null {
  const changes = diffWordsWithSpace(one, other, { timeout: PATIENCE_MS });
  if (!changes) return null;
  const left = changes.filter((change) => !change.added).map((change) => ({ text: change.value, differs: change.removed }));
  const right = changes.filter((change) => !change.removed).map((change) => ({ text: change.value, differs: change.added }));
  return [left, right];
}
