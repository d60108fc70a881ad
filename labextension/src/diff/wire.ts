// What llmops_lab/api/views/diff.py answers. A number that is not there (NaN in Python) is null.
export type Outcome = "better" | "worse" | "equal" | "missing";
export type Flip = "change" | "noise" | "unknown: one replicate";
export const FILTERS = ["all", "worse", "better", "equal", "flips", "change", "noise", "unknown", "different", "missing"] as const;
export type Filter = (typeof FILTERS)[number];

export interface Variant {
  name: string;
  mean: number | null;
  scored: number;
  replied: number;
  histogram: number[];
  text: string;
  version: string;
}

export interface Verdict {
  outcome: "better" | "worse" | "equivalent" | "inconclusive";
  sentence: string;
  delta: number | null;
  ci_low: number | null;
  ci_high: number | null;
}

export interface PairOf {
  a: string;
  b: string;
  verdict: Verdict | null;
  counts: Record<Filter, number>;
}

export interface Opened {
  variants: Variant[];
  by: string;
  scorer: { name: string; higher_is_better: boolean | null; bounds: [number, number] | null } | null;
  edges: number[];
  pairs: PairOf[];
  rows: number;
  note: string;
  flips_note: string;
  slices_note: string;
  values_note: string;
  replicates: number;
}

export interface Line {
  row: number;
  id: string;
  title: string;
  outcome: Outcome;
  a: number | null;
  b: number | null;
  gain: number | null;
  flip: Flip | null;
  texts: "same" | "same JSON" | "different" | "missing";
  /** Passes and replies of a, then of b. */
  passed: [number, number, number, number] | null;
}

export interface Rows {
  total: number;
  start: number;
  rows: Line[];
}

export interface Cell {
  prompt: string;
  model: string;
  replicate: number;
  status: string;
  text: string | null;
  error: string;
  finish_reason: string | null;
  latency_s: number | null;
  cost_usd: number | null;
  key: string;
  score: boolean | number | null;
  score_note: string;
}

export interface Row {
  row: number;
  id: string;
  values: [string, string][];
  pairs: Line[];
  /** The cells of each variant, the baseline first. */
  variants: Cell[][];
}

export interface SliceOf {
  at: number;
  slice: string;
  kind: string;
  n: number;
  wins: number;
  losses: number;
  ties: number;
  delta: number | null;
  low: number | null;
  high: number | null;
  rest: number | null;
  p_value: number | null;
  q_value: number | null;
  found: boolean;
  unlike: boolean;
  also: string;
}

export interface Slices {
  level: number;
  tested: number;
  groups: number;
  slices: SliceOf[];
  left_out: number;
}
