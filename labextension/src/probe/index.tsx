// The view with which the tests look at the kit itself in a real notebook. It is no part of the package.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Host } from "../kit/host";
import { Markdown } from "../kit/text";
import { widget } from "../kit/widget";

function Probe({ host }: { host: Host }) {
  const told = useSignal("");
  const events = useSignal(0);
  useEffect(() => host.listen(() => events.value++), [host]);
  const ask = async (method: string) => {
    told.value = "asked";
    const began = performance.now();
    try {
      const { data, buffers } = await host.call<object>(method, { size: 3 });
      const milliseconds = Math.round(performance.now() - began);
      told.value = JSON.stringify({ ...data, milliseconds, bytes: buffers.map((each) => each.byteLength) });
    } catch (error) {
      told.value = String(error);
    }
  };
  return (
    <div class="probe" tabIndex={0}>
      {["echo", "refuse", "break", "missing", "burst"].map((method) => (
        <button onClick={() => void ask(method)}>{method}</button>
      ))}
      <input aria-label="text" />
      <output class="probe-told">{told}</output>
      <output class="probe-events">{events}</output>
      <Markdown text="**bold** <script>alert(1)</script>" />
    </div>
  );
}

export default widget(Probe);
