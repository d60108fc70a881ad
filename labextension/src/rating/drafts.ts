/** What is being written about an item and goes with its rating. Kept over a reload; never called saved. */

import type { Mine } from "./wire";

export interface Notes {
  comment: string;
  correction: string;
  flag: boolean;
}

export function notesOf(mine: Mine | null): Notes {
  return { comment: mine?.comment ?? "", correction: mine?.correction ?? "", flag: mine?.flag ?? false };
}

export function sameNotes(one: Notes, other: Notes): boolean {
  return one.comment === other.comment && one.correction === other.correction && one.flag === other.flag;
}

export class Drafts {
  constructor(
    private readonly queue: string,
    private readonly rater: string,
  ) {}

  get(item: string): Notes | null {
    try {
      return JSON.parse(localStorage.getItem(this.key(item)) ?? "null") as Notes | null;
    } catch {
      return null;
    }
  }

  put(item: string, notes: Notes): void {
    try {
      localStorage.setItem(this.key(item), JSON.stringify(notes));
    } catch {
      /* a draft lives no longer than the page then */
    }
  }

  drop(item: string): void {
    try {
      localStorage.removeItem(this.key(item));
    } catch {
      /* it is put back when the item is shown again */
    }
  }

  private key(item: string): string {
    return ["llmops-lab/draft", this.queue, this.rater, item].map(encodeURIComponent).join("/");
  }
}
