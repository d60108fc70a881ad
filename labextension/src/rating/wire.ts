/** What api/views/rating.py answers with, and what is sent to it. */

export type Mode = "single" | "pairwise" | "ranking";
export type Value = string | number | boolean;
export type State = "open" | "rated" | "skipped" | "taken";

/** What holds now for this rater and item, as it is in the ledger. */
export interface Mine {
  row: number;
  value: Value | null;
  comment: string | null;
  flag: boolean;
  skip: string | null;
  correction: string | null;
  /** ISO 8601, of the commit */
  saved_at: string;
}

export interface Side {
  side: string;
  text: string;
  images: string[];
}

export interface Task {
  item: string;
  position: number;
  total: number;
  prompt: string;
  images: string[];
  sources: { name: string; text: string }[];
  sides: Side[];
  /** which of the queue's sides stands first, second, ...: "ba" */
  side_order: string;
  mine: Mine | null;
  suggestion: Value | null;
}

export interface Progress {
  done: number;
  total: number;
  skipped: number;
  closed: boolean;
}

export interface Level {
  value: Value;
  text: string;
}

export interface Example {
  text: string;
  value: Value | null;
}

export interface Opened {
  queue: string;
  name: string;
  rater: string;
  mode: Mode;
  question: string;
  levels: Level[];
  guide: string;
  examples: Example[];
  /** whether the panel is the owner's, in a notebook */
  owner: boolean;
  /** what brings the panel back, to be typed in a notebook */
  again: string;
  items: [string, State][];
  progress: Progress;
  task: Task | null;
}

export interface Next {
  task: Task | null;
  progress: Progress;
  items?: [string, State][];
}

export interface Saved {
  row: number;
  saved_at: string;
}
