// Keys typed in a view stay there: JupyterLab would take "b" for a new cell, "dd" for deleting one.

/** Stops keys without a modifier from reaching the notebook. Tab goes on (it leaves the view), and so does Ctrl+S. */
export function guardKeys(root: HTMLElement): () => void {
  const guard = (event: KeyboardEvent) => {
    if (event.key !== "Tab" && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  };
  root.addEventListener("keydown", guard); // JupyterLab listens in the bubbling phase, above this root
  return () => root.removeEventListener("keydown", guard);
}
