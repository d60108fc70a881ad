// Which lines of a list can be seen. All are of one height here, so two divisions do; the kit's useVirtual is for lines of unequal height.
import { useLayoutEffect, useReducer } from "preact/hooks";

const BEYOND = 6;

export interface Seen {
  first: number;
  last: number;
  /** Bring a line into view, if it is not. */
  show(at: number): void;
}

export function useWindow(scroller: { current: HTMLElement | null }, count: number, height: number): Seen {
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
  const room = scroller.current?.clientHeight ?? 0;
  return {
    first: Math.max(0, Math.floor(top / height) - BEYOND),
    last: Math.min(count - 1, Math.ceil((top + room) / height) + BEYOND),
    show(at) {
      const element = scroller.current;
      if (!element) return;
      if (at * height < element.scrollTop) element.scrollTop = at * height;
      else if ((at + 1) * height > element.scrollTop + element.clientHeight) element.scrollTop = (at + 1) * height - element.clientHeight;
    },
  };
}
