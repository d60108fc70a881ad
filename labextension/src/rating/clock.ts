/** Time that a person spends on one item. A pause counts as 30 s at most, and a hidden page does not count at all. */

export const IDLE_MS = 30_000;

export class Clock {
  private spent = 0;
  private last: number | null;

  constructor(private readonly now: () => number = () => performance.now()) {
    this.last = now();
  }

  /** Begin anew: another item is shown. */
  restart(): void {
    this.spent = 0;
    this.last = this.now();
  }

  /** Somebody is there: a key, a click, the pointer, scrolling. */
  seen(): void {
    if (this.last === null) return;
    const now = this.now();
    this.spent += Math.min(now - this.last, IDLE_MS);
    this.last = now;
  }

  /** The page is hidden: nothing counts until it is shown again. */
  pause(): void {
    this.seen();
    this.last = null;
  }

  resume(): void {
    this.last ??= this.now();
  }

  get seconds(): number {
    this.seen();
    return Math.round(this.spent / 100) / 10;
  }
}
