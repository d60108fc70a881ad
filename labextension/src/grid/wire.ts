// What the grid's view and its Python side (api/views/grid.py) say to each other.
import { table } from "../kit/arrow";
import type { Answer } from "../kit/host";

export const STATUSES = ["open", "ok", "failed", "cancelled", "skipped"] as const;
export const NUMBERS = ["input_tokens", "output_tokens", "cost_usd", "latency_s", "ttft_s"] as const;
export type Layout = "cells" | "rows";

export interface Query {
  layout: Layout;
  sort: string;
  descending: boolean;
  by: number;
  shown: string;
  variant: number;
  differs: number;
  differs_in: string;
  scorer: string;
  low: number | null;
  high: number | null;
  search: string;
  regex: boolean;
  where: [string, string] | null;
}

export const PLAIN: Query = {
  layout: "cells",
  sort: "",
  descending: false,
  by: -1,
  shown: "all",
  variant: -1,
  differs: -1,
  differs_in: "text",
  scorer: "",
  low: null,
  high: null,
  search: "",
  regex: false,
  where: null,
};

export interface Standing {
  state: string;
  version: number;
  ready: boolean;
  share: number;
  total: number;
  counts: Record<string, number> | null;
  cost: number | null;
  broken: string;
  can_cancel: boolean;
  can_resume: boolean;
  why: string;
}

export interface PageTold {
  start: number;
  size: number;
  lines: number;
  cells: number;
  version: number;
}

export interface Opened extends Standing {
  name: string;
  variants: [string, string][];
  scorers: { name: string; higher: boolean | null; bounds: [number, number] | null }[];
  columns: string[];
  repeats: number;
  selected: number[];
  layout: Layout;
  page: PageTold;
  note?: string;
}

export interface Cell {
  cell: number;
  variant: number;
  status: (typeof STATUSES)[number];
  text: string | null;
  finish: string;
  error: string;
  kept: boolean;
  numbers: (number | null)[];
  scores: (number | null)[];
}

export interface Line {
  row: string;
  replicate: number;
  asked: string;
  cells: Cell[];
}

export interface Mean {
  n: number;
  scored: number;
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface Summary {
  figures: { scorer: string; edges: number[]; binary: boolean; variants: (Mean & { counts: number[] })[] } | null;
  verdict: { outcome: string; text: string; note?: string };
  cells: number;
  version: number;
}

export interface Groups {
  scorer: string;
  groups: { group: string; n: number; variants: Mean[] }[];
  more: number;
  more_cells: number;
}

export interface Detail {
  cell: number;
  row_id: string;
  replicate: number;
  prompt: string;
  model: string;
  status: string;
  text: string | null;
  error: string;
  message: string;
  finish_reason: string;
  tool_calls: string;
  expected: string;
  scores: { name: string; value: number | null; flag: boolean; reason: string; error: string; detail: [string, string][] }[];
  numbers: Record<string, number | null>;
  note: string;
  earlier: { at: number; status: string; text: string }[];
  messages: { role: string; text: string }[] | null;
  why: string;
  row: [string, string][] | null;
  documents: { name: string; texts: string[] }[];
  provenance: [string, string][];
  run_link: string;
}

/** The lines of a page: its first buffer holds the cells, its second one the lines. */
export function lines(answer: Answer<PageTold>, scorers: string[]): Line[] {
  const [first, second] = answer.buffers;
  if (!first || !second) return [];
  const cells = table(first);
  const heads = table(second);
  const of = (name: string): ArrayLike<any> => cells.getChild(name)!.toArray();
  const [number, line, variant, status, text, finish, error, kept] = ["cell", "line", "variant", "status", "text", "finish", "error", "kept"].map(of);
  const numbers = NUMBERS.map(of);
  const scores = scorers.map((name) => of(`score:${name}`));
  const [row, replicate, asked] = ["row_id", "replicate", "asked"].map((name): ArrayLike<any> => heads.getChild(name)!.toArray());
  const made: Line[] = Array.from({ length: heads.numRows }, (_, at) => ({ row: row![at], replicate: replicate![at], asked: asked![at], cells: [] }));
  for (let at = 0; at < cells.numRows; at++)
    made[line![at] - answer.data.start]?.cells.push({
      cell: number![at],
      variant: variant![at],
      status: STATUSES[status![at]]!,
      text: text![at],
      finish: finish![at],
      error: error![at],
      kept: kept![at],
      numbers: numbers.map((column) => column[at] ?? null),
      scores: scores.map((column) => column[at] ?? null),
    });
  return made;
}
