// Which lines of a long list can be seen. All are of one height, so two divisions do.
import { useLayoutEffect, useReducer } from "preact/hooks";

const BEYOND = 6;

export interface Seen {
  first: number;
  last: number;
  /** How much of the list can be seen, in pixels. */
  room: number;
  /** Bring a line into view, if it is not. */
  show(at: number): void;
}

/** `head`: what of the scroller a head that stays in sight takes up. */
export function useWindow(scroller: { current: HTMLElement | null }, count: number, height: number, head = 0): Seen {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const again = () => redraw(undefined as never);
    again(); // only now is its height known
    element.addEventListener("scroll", again, { passive: true });
    const resized = new ResizeObserver(again);
    resized.observe(element);
    return () => {
      element.removeEventListener("scroll", again);
      resized.disconnect();
    };
  }, []);
  const top = scroller.current?.scrollTop ?? 0;
  const room = Math.max(0, (scroller.current?.clientHeight ?? 0) - head);
  return {
    first: Math.max(0, Math.floor(top / height) - BEYOND),
    last: Math.min(count - 1, Math.ceil((top + room) / height) + BEYOND),
    room,
    show(at) {
      const element = scroller.current;
      if (!element) return;
      if (at * height < element.scrollTop) element.scrollTop = at * height;
      else if ((at + 1) * height > element.scrollTop + element.clientHeight - head) element.scrollTop = (at + 1) * height - element.clientHeight + head;
    },
  };
}
