/** Ratings that are not known to be in the ledger. They are put down here before anything is sent, and taken out after the commit.
 *
 * Kept in localStorage, one key an entry, so that tabs do not write over one another and a reload finds them; in memory, and said so,
 * where the browser keeps nothing. All panels of one queue and rater share the entries. Each is sent under its own id, which the
 * ledger stores once; locks only spare it the second asking.
 */

import type { Value } from "./wire";

export interface Entry {
  id: string;
  item: string;
  method: "submit" | "undo";
  value: Value | null;
  comment: string | null;
  seconds: number | null;
  flag: boolean;
  skip: string | null;
  correction: string | null;
  /** The row that this one replaces: 0 for none, or the entry before it, whose row is not known yet. */
  expects: number | { after: string };
  /** When it was made, in ms: entries are sent in this order. */
  made: number;
  /** Why it is not saved, after a try. */
  trouble: { type: string; message: string } | null;
}

/** What panels of the same queue and rater tell each other, in this tab and in others. */
export type News = { kind: "put" } | { kind: "dropped" } | { kind: "saved"; id: string; item: string; row: number; saved_at: string };

const PREFIX = "llmops-lab/outbox";
const key = (...parts: string[]): string => [PREFIX, ...parts.map(encodeURIComponent)].join("/");

export class Outbox {
  /** False when this browser keeps nothing: then entries live no longer than the page. */
  lasting = true;
  private readonly memory = new Map<string, Entry>();
  private channel: BroadcastChannel | null;
  private readonly listening = new Set<(news: News) => void>();

  constructor(
    private readonly queue: string,
    private readonly rater: string,
    private readonly storage: Storage | null = usable(),
  ) {
    this.lasting = storage !== null;
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(key(queue, rater));
    if (this.channel) this.channel.onmessage = (event: MessageEvent<News>) => this.listening.forEach((on) => on(event.data));
  }

  /** All entries, oldest first. One that cannot be read is left where it is. */
  all(): Entry[] {
    const found = new Map(this.memory);
    for (const name of this.names()) {
      const entry = read(this.storage?.getItem(name) ?? null);
      if (entry) found.set(entry.id, entry);
    }
    return [...found.values()].sort((one, other) => one.made - other.made || (one.id < other.id ? -1 : 1));
  }

  has(id: string): boolean {
    return this.memory.has(id) || (this.storage?.getItem(key(this.queue, this.rater, id)) ?? null) !== null;
  }

  /** On return the entry is kept as safely as this browser can. */
  put(entry: Entry): void {
    try {
      if (!this.storage) throw new Error("no storage");
      this.storage.setItem(key(this.queue, this.rater, entry.id), JSON.stringify(entry));
      this.memory.delete(entry.id);
    } catch {
      this.memory.set(entry.id, entry);
      this.lasting = false;
    }
    this.tell({ kind: "put" });
  }

  /** What came after a saved entry now knows which row it replaces; this is put down before the entry itself goes. */
  saved(entry: Entry, row: number, saved_at: string): void {
    for (const later of this.all()) {
      if (typeof later.expects === "object" && later.expects.after === entry.id) this.put({ ...later, expects: row });
    }
    this.remove(entry.id);
    this.tell({ kind: "saved", id: entry.id, item: entry.item, row, saved_at });
  }

  /** Given up by the person: nothing of it was stored. */
  drop(ids: string[]): void {
    ids.forEach((id) => this.remove(id));
    this.tell({ kind: "dropped" });
  }

  listen(on: (news: News) => void): () => void {
    this.listening.add(on);
    return () => this.listening.delete(on);
  }

  close(): void {
    this.listening.clear();
    this.channel?.close();
    this.channel = null; // an answer may still come in
  }

  private remove(id: string): void {
    this.memory.delete(id);
    try {
      this.storage?.removeItem(key(this.queue, this.rater, id));
    } catch {
      /* it will be sent again under the same id, which is stored once */
    }
  }

  private tell(news: News): void {
    this.channel?.postMessage(news);
  }

  private names(): string[] {
    const start = `${key(this.queue, this.rater)}/`;
    const names = [];
    for (let at = 0; at < (this.storage?.length ?? 0); at += 1) {
      const name = this.storage?.key(at);
      if (name?.startsWith(start)) names.push(name);
    }
    return names;
  }
}

/** Send one entry while no other panel does; undefined when another one is at it. */
export async function alone<T>(id: string, work: () => Promise<T>): Promise<T | undefined> {
  const locks = (globalThis.navigator as Navigator | undefined)?.locks;
  if (!locks) return work(); // a page without TLS: the same entry may be sent twice and is stored once
  return locks.request(`llmops-lab/${id}`, { ifAvailable: true }, (lock) => (lock ? work() : Promise.resolve(undefined)));
}

/** The entries as lines that `q.import_ratings` takes. */
export function asLines(entries: Entry[], queue: string, rater: string): string {
  return entries
    .map(({ trouble: _trouble, expects, method, made, ...kept }) =>
      JSON.stringify({
        queue,
        rater,
        ...kept,
        undo: method === "undo",
        expects: typeof expects === "number" ? expects : null,
        made: new Date(made).toISOString(),
      }),
    )
    .join("\n");
}

function usable(): Storage | null {
  try {
    const probe = `${PREFIX}?`;
    localStorage.setItem(probe, "");
    localStorage.removeItem(probe);
    return localStorage;
  } catch {
    return null;
  }
}

function read(text: string | null): Entry | null {
  try {
    const entry = JSON.parse(text ?? "null") as Entry | null;
    return entry && typeof entry.id === "string" && typeof entry.item === "string" ? entry : null;
  } catch {
    return null;
  }
}
