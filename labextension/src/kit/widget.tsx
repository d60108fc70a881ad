// Puts a view into the page: into a cell's output (widget) or into a page of its own (mount).
import { Component, render, type ComponentType, type ComponentChildren } from "preact";
import { commHost, ENDED, type CommHost, type Model } from "./comm";
import type { Host } from "./host";
import { guardKeys } from "./keys";
import "./theme.css";

export type View = ComponentType<{ host: Host }>;

/** What anywidget wants from a module: `export default widget(GridView)`. */
export function widget(View: View) {
  return {
    render({ model, el }: { model: Model; el: HTMLElement }) {
      const host = commHost(model);
      const leave = mount(el, View, host);
      return () => {
        leave();
        host.close();
      };
    },
  };
}

/** Draws the view into the element; returns how to take it away. */
export function mount(element: HTMLElement, View: View, host: Host): () => void {
  const root = document.createElement("div");
  root.className = "llmops-lab";
  element.append(root);
  const unguard = guardKeys(root);
  const unwatch = followTheme(root);
  render(
    <Guarded>
      <View host={host} />
      <Waits host={host} />
    </Guarded>,
    root,
  );
  return () => {
    unguard();
    unwatch();
    render(null, root);
    root.remove();
  };
}

/** JupyterLab says light or dark on its body; elsewhere the system's choice stands. */
function followTheme(root: HTMLElement): () => void {
  const apply = () => {
    const light = document.body.dataset.jpThemeLight;
    root.classList.toggle("ll-light", light === "true");
    root.classList.toggle("ll-dark", light === "false");
  };
  apply();
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => observer.disconnect();
}

/** What a view cannot know by itself: that an answer takes long, and that there will be none. */
function Waits({ host }: { host: Host }) {
  const comm = host as Partial<CommHost>;
  const other = host.kind === "rest" ? "server" : "kernel";
  return (
    <div role="status">
      {comm.ended?.value ? (
        <div class="ll-error">Not live: {ENDED}</div>
      ) : (
        host.waiting.value && (
          <div class="ll-waiting">
            Waiting for the {other}
            {comm.threaded?.() === false && ": it answers when the running cell has ended"} …
          </div>
        )
      )}
    </div>
  );
}

/** A view that breaks says so; the rest of the page lives. */
class Guarded extends Component<{ children: ComponentChildren }, { broken: string | null }> {
  override state = { broken: null };

  override componentDidCatch(error: unknown): void {
    this.setState({ broken: error instanceof Error ? error.message : String(error) });
  }

  override render() {
    if (this.state.broken === null) return this.props.children;
    return (
      <div class="ll-error" role="alert">
        This view broke: {this.state.broken}. Nothing that was saved is lost; show it again.
      </div>
    );
  }
}
