/** Values as they are stored (in terms of the queue's sides) and as they are shown (in terms of what stands first, second, ...). */

import type { Mode, Value } from "./wire";

export const LETTERS = "ABCDEFGHI";

const renamed = (value: string, from: string, to: string): string =>
  [...value].map((letter) => (from.includes(letter) ? to[from.indexOf(letter)] : letter)).join("");

/** "A" of a task whose sides are shown as "ba" is stored as "b"; "tie" and "bad" and levels stay. */
export function stored(mode: Mode, value: Value, order: string): Value {
  if (mode === "single" || value === "tie" || value === "bad") return value;
  const named = renamed(String(value), LETTERS.slice(0, order.length), order);
  return ranked(ranksOf(named).map((group) => group.sort())); // sides that tie stand in the alphabet's order, as the ledger has them
}

export function shown(mode: Mode, value: Value, order: string): Value {
  if (mode === "single" || value === "tie" || value === "bad") return value;
  return renamed(String(value), order, LETTERS.slice(0, order.length));
}

/** How a value is called in a sentence. */
export function spoken(mode: Mode, value: Value | null, order: string): string {
  if (value === null) return "nothing";
  if (value === "tie") return "a tie";
  if (value === "bad") return "both bad";
  const text = String(shown(mode, value, order));
  return mode === "ranking" ? text.replaceAll(">", " > ").replaceAll("=", " = ") : text;
}

/** A ranking that grows: best first, each place a group of sides that tie. */
export type Ranks = string[][];

export function place(ranks: Ranks, side: string, tied: boolean): Ranks {
  if (ranks.some((group) => group.includes(side))) return ranks;
  const last = ranks.at(-1);
  return tied && last ? [...ranks.slice(0, -1), [...last, side]] : [...ranks, [side]];
}

export function takeLast(ranks: Ranks): Ranks {
  const last = ranks.at(-1) ?? [];
  return last.length > 1 ? [...ranks.slice(0, -1), last.slice(0, -1)] : ranks.slice(0, -1);
}

export function ranked(ranks: Ranks): string {
  return ranks.map((group) => group.join("=")).join(">");
}

export function ranksOf(value: string): Ranks {
  return value === "" ? [] : value.split(">").map((group) => group.split("="));
}
