// The host of a view in one HTML file: it answers with what was recorded when the file was written.
import { signal } from "@preact/signals";
import { type Answer, type Host, Refused } from "./host";
import { decoded } from "./rest";

export interface Recorded {
  view: string;
  /** By `method` and its parameters as api/views/_view.py::recorded_as writes them; by `method` alone: whatever the parameters. */
  answers: Record<string, { data: any; buffers?: number[] }>;
  buffers: string[];
  /** When the file was written. */
  written?: string;
}

/** What the file holds, or null. */
export function embedded(): Recorded | null {
  const text = document.getElementById("llmops-lab-data")?.textContent;
  return text ? (JSON.parse(text) as Recorded) : null;
}

export function embeddedHost(recorded: Recorded): Host {
  const buffers = recorded.buffers.map(decoded);
  return {
    kind: "embedded",
    async call<T>(method: string, params: object = {}): Promise<Answer<T>> {
      const found = recorded.answers[recordedAs(method, params)] ?? recorded.answers[method];
      if (!found) throw new Refused("NotInThisFile", "This file is a copy to read: what you asked for is not in it.");
      return { data: found.data as T, buffers: (found.buffers ?? []).flatMap((number) => buffers[number] ?? []) };
    },
    listen: () => () => {},
    waiting: signal(false),
  };
}

/** The twin of recorded_as in Python: the method, and its parameters as JSON with sorted names and no blanks. */
export function recordedAs(method: string, params: object): string {
  const text = sorted(params);
  return text === "{}" ? method : `${method} ${text}`;
}

function sorted(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((each) => sorted(each ?? null)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, inside]) => inside !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, inside]) => `${JSON.stringify(name)}:${sorted(inside)}`)
    .join(",")}}`;
}
