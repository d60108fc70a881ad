// The focus stays in a view that has it, and with it the keys.
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** Where a button that has the focus goes away or is switched off, `home` gets it (the root, unless said): else the next key would go to the notebook. */
export function useKeptFocus(root: RefObject<HTMLElement>, home: () => HTMLElement | null | undefined = () => root.current) {
  const inside = useRef(false);
  const keep = () => {
    const nowhere = document.activeElement === null || document.activeElement === document.body;
    if (inside.current && nowhere) home()?.focus({ preventScroll: true });
  };
  useEffect(keep);
  return {
    onFocusIn: () => {
      inside.current = true;
    },
    onFocusOut: ({ target }: FocusEvent) =>
      setTimeout(() => {
        const stands = target instanceof HTMLElement && target.isConnected && !target.matches(":disabled");
        if (stands) inside.current = root.current?.contains(document.activeElement) ?? false;
        keep();
      }),
  };
}
