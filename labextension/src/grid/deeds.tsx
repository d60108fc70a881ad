// What can be done with cells: ask them again, add their rows to a dataset, send them to a rating queue.
import { useEffect, useRef, useState } from "preact/hooks";
import { Refused, told as reason } from "../kit/host";
import type { Store } from "./store";

export function Deeds({ store, cells }: { store: Store; cells: number[] }) {
  const [form, setForm] = useState<"" | "dataset" | "queue">("");
  const [told, setTold] = useState({ said: "", bad: false });
  const [busy, setBusy] = useState(false);
  const out = useRef(false); // at once, where `busy` waits for the next drawing
  const mark = cells.join();
  useEffect(() => setTold({ said: "", bad: false }), [mark]);
  const standing = store.standing.value;
  const why = store.host.kind === "embedded" ? "This is a copy to read." : (standing?.why ?? "");
  const running = standing?.state === "running";
  const act = async (method: string, params: object, done: string) => {
    if (out.current) return;
    out.current = true;
    setBusy(true);
    try {
      setTold({ said: (await store.act(method, { cells, ...params })) || done, bad: false });
      setForm("");
    } catch (error) {
      setTold({ said: error instanceof Refused ? reason(error) : `${reason(error)} It may have been done all the same.`, bad: true });
    }
    out.current = false;
    setBusy(false);
  };
  const count = cells.length > 1 ? ` (${cells.length})` : "";
  const still = store.host.kind === "embedded";
  const again = why || (running ? "The grid is running." : "");
  return (
    <div class="llg-deeds">
      <button type="button" disabled={busy || again !== ""} title={again || "Asked anew: paid for, recorded and scored. What was there stays on record."} onClick={(event) => event.detail < 2 && void act("again", {}, "Asked again.")}>
        Run again{count}
      </button>
      <button type="button" disabled={busy || still} aria-expanded={form === "dataset"} onClick={() => setForm(form === "dataset" ? "" : "dataset")}>
        Add to dataset{count} …
      </button>
      <button type="button" disabled={busy || still} aria-expanded={form === "queue"} onClick={() => setForm(form === "queue" ? "" : "queue")}>
        Send to rating queue{count} …
      </button>
      {again && <span class="ll-muted">Run again: {again}</span>}
      {form === "dataset" && <ToDataset busy={busy} send={(name, expect) => void act("dataset", { name, expect }, "Added.")} />}
      {form === "queue" && <ToQueue store={store} busy={busy} send={(name) => void act("queue", { name }, "Sent.")} />}
      <span role="status" class={told.bad ? "ll-error" : "ll-good"}>{told.said}</span>
    </div>
  );
}

function ToDataset({ send, busy }: { send: (name: string, expect: string) => void; busy: boolean }) {
  const [name, setName] = useState("");
  const [expect, setExpect] = useState("expected");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send(name, expect);
      }}
    >
      <label>
        MLflow dataset <input value={name} onInput={(event) => setName(event.currentTarget.value)} placeholder="name" required />
      </label>{" "}
      <label>
        that expects{" "}
        <select value={expect} onChange={(event) => setExpect(event.currentTarget.value)}>
          <option value="expected">the row's own answer</option>
          <option value="reply">this reply</option>
          <option value="nothing">nothing</option>
        </select>
      </label>{" "}
      <button type="submit" class="ll-primary" disabled={busy || !name.trim()}>Add</button>
    </form>
  );
}

function ToQueue({ store, send, busy }: { store: Store; send: (name: string) => void; busy: boolean }) {
  const [names, setNames] = useState<string[] | null>(null);
  const [name, setName] = useState("");
  useEffect(() => {
    void store.tried(async () => {
      const { data } = await store.host.call<{ queues: string[] }>("queues");
      setNames(data.queues);
      setName(data.queues[0] ?? "");
    });
  }, []);
  if (names === null) return <span class="ll-muted">…</span>;
  if (!names.length) return <span class="ll-muted">There is no rating queue yet: lab.rate(g, rubric=...) makes one.</span>;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send(name);
      }}
    >
      <label>
        queue{" "}
        <select value={name} onChange={(event) => setName(event.currentTarget.value)}>
          {names.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </label>{" "}
      <button type="submit" class="ll-primary" disabled={busy}>Send</button>
    </form>
  );
}
