// Only the rows that can be seen are in the page.
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer, type VirtualItem } from "@tanstack/virtual-core";
import { useEffect, useLayoutEffect, useReducer, useRef } from "preact/hooks";

export type { VirtualItem };

export interface Virtual {
  items: VirtualItem[];
  /** Height in pixels of all rows. */
  total: number;
  scrollTo(index: number, align?: "auto" | "start" | "center" | "end"): void;
  /** A ref for rows of unequal height; the element needs data-index. */
  measure(element: HTMLElement | null): void;
}

/** The rows to draw inside the scrolling element. `estimate` is a row's height in pixels. */
export function useVirtual(given: {
  count: number;
  scroller: () => HTMLElement | null;
  estimate: number | ((index: number) => number);
  overscan?: number;
}): Virtual {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const kept = useRef<Virtualizer<HTMLElement, HTMLElement> | null>(null);
  const { estimate } = given;
  const options = {
    count: given.count,
    getScrollElement: given.scroller,
    estimateSize: typeof estimate === "number" ? () => estimate : estimate,
    overscan: given.overscan ?? 8,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw(undefined as never),
  };
  const virtualizer = (kept.current ??= new Virtualizer<HTMLElement, HTMLElement>(options));
  virtualizer.setOptions(options);
  useEffect(() => virtualizer._didMount(), []);
  useLayoutEffect(() => virtualizer._willUpdate());
  return {
    items: virtualizer.getVirtualItems(),
    total: virtualizer.getTotalSize(),
    scrollTo: (index, align = "auto") => virtualizer.scrollToIndex(index, { align }),
    measure: (element) => element && virtualizer.measureElement(element),
  };
}
