// How numbers and names look.
import { rounded } from "../kit/rounded";
import type { Cell, Query } from "./wire";

export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return Number.isInteger(value) ? value.toLocaleString("en") : rounded(value, digits);
}

export function money(value: number | null): string {
  if (value === null) return "cost unknown";
  return `$${value >= 1 || value === 0 ? value.toFixed(2) : rounded(value, 2)}`;
}

export function variantName([prompt, model]: [string, string], all: [string, string][]): string {
  const prompts = new Set(all.map((each) => each[0])).size;
  const models = new Set(all.map((each) => each[1])).size;
  return models === 1 && prompts > 1 ? prompt : prompts === 1 && models > 1 ? model : `${prompt} · ${model}`;
}

/** What stands in a cell's place: the reply, or why there is none. */
export function reply(cell: Cell, state: string): string {
  if (cell.text !== null) return cell.text || "(empty reply)";
  if (cell.status === "failed") return `failed: ${cell.error}`;
  return cell.status === "open" ? (state === "running" || state === "planned" ? "…" : "not asked") : cell.status;
}

export function isFiltered(query: Query): boolean {
  return query.shown !== "all" || query.variant >= 0 || query.differs >= 0 || query.low !== null || query.high !== null || query.search !== "" || query.where !== null;
}

/** Seconds as they are read: what is shorter than a millisecond is that. */
export function seconds(value: number | null | undefined): string {
  return value !== null && value !== undefined && value < 0.001 ? "<0.001" : number(value);
}

export function several(cells: number): string {
  return `${cells.toLocaleString("en")} cell${cells === 1 ? "" : "s"}`;
}
