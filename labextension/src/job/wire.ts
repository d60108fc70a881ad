/** What the kernel tells of a job: api/views/job.py. */
export interface JobState {
  id: string;
  template: string;
  state: string;
  /** It has ended. */
  over: boolean;
  /** What a queued job waits for. */
  waits: string;
  done: number;
  total: number;
  cell: number | null;
  attempt: number;
  attempts: number;
  /** Seconds since it began, as of when this was told. */
  elapsed: number | null;
  /** Said when nothing was heard of its process for long. */
  silent: string;
  cancelling: boolean;
  error: string;
  exit_code: number | null;
  /** Verdicts and what else its result says in one line: what it is called, and the line. */
  told: [string, string][];
  log: string[];
  folder: string;
  notebook: string;
  run_id: string | null;
  /** The ledger could not be read just now. */
  trouble: string;
}
