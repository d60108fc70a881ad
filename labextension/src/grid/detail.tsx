// One cell, whole.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Deeds } from "./deeds";
import { money, number, seconds } from "./format";
import type { Store } from "./store";
import type { Detail } from "./wire";

export function DetailPane({ store }: { store: Store }) {
  const place = useRef<HTMLElement>(null);
  const open = store.detail.value;
  useEffect(() => {
    if (place.current) place.current.scrollTop = 0;
  }, [open?.cell]);
  if (!open) return null;
  const { data, problem } = open;
  return (
    <section class="llg-detail" ref={place} role="region" aria-label="The open cell" tabIndex={0}>
      <header>
        <strong>{data ? `row ${data.row_id}${data.replicate ? `, repeat ${data.replicate + 1}` : ""}` : "…"}</strong>
        {data && <span class="ll-muted"> {data.prompt} · {data.model}</span>}
        <button type="button" class="llg-close" aria-label="Close the cell" title="Escape" onClick={() => (store.detail.value = null)}>✕</button>
      </header>
      {problem && <p class="ll-error" role="alert">{problem}</p>}
      {data && <Whole store={store} data={data} />}
    </section>
  );
}

function Whole({ store, data }: { store: Store; data: Detail }) {
  return (
    <>
      <Deeds store={store} cells={[data.cell]} />
      <Part title="Asked">
        {data.messages ? (
          data.messages.map((each, at) => (
            <div key={at} class="llg-message">
              <span class="ll-muted">{each.role}</span>
              <Text text={each.text} />
            </div>
          ))
        ) : (
          <p class="ll-warn">The prompt cannot be shown: {data.why}</p>
        )}
      </Part>
      <Part title={data.status === "ok" ? "Reply" : data.status}>
        {data.text !== null ? <Text text={data.text || "(empty reply)"} /> : <p class={data.status === "failed" ? "ll-bad" : "ll-muted"}>{data.error || "There is no reply."}</p>}
        {data.message && <Text text={data.message} />}
        {data.finish_reason === "length" && <p class="ll-warn">Cut by the token limit.</p>}
        {data.tool_calls && <Text text={data.tool_calls} />}
        {data.note && <p class="ll-muted">{data.note}</p>}
      </Part>
      {data.expected && (
        <Part title="Expected">
          <Text text={data.expected} />
        </Part>
      )}
      {data.scores.length > 0 && (
        <Part title="Scores">
          {data.scores.map((each) => (
            <div key={each.name} class="llg-one-score">
              <strong>{each.name}</strong> <span>{each.value === null ? "unscored" : each.flag ? (each.value ? "yes (1)" : "no (0)") : number(each.value, 4)}</span>
              {each.reason && <Text text={each.reason} />}
              {each.error && <p class="ll-bad">{each.error}</p>}
              {each.detail.length > 0 && <Pairs pairs={each.detail} />}
            </div>
          ))}
        </Part>
      )}
      <Part title="Cost and time">
        <p>
          {number(data.numbers.input_tokens)} tokens in, {number(data.numbers.output_tokens)} out · {money(data.numbers.cost_usd ?? null)} · {seconds(data.numbers.latency_s)} s
          {data.numbers.ttft_s !== null && ` · first token after ${seconds(data.numbers.ttft_s)} s`}
          {(data.numbers.tries ?? 1) > 1 && ` · ${data.numbers.tries} tries`}
          {data.numbers.at && ` · ${new Date(data.numbers.at * 1000).toLocaleString()}`}
        </p>
      </Part>
      {data.documents.map((each) => (
        <Part key={each.name} title={`Retrieved: ${each.name}`}>
          {each.texts.map((one, at) => (
            <Text key={at} text={one} />
          ))}
        </Part>
      ))}
      {data.row && (
        <Part title="Row" closed>
          <Pairs pairs={data.row} />
        </Part>
      )}
      <Part title="Where it comes from">
        <Pairs pairs={data.provenance} />
        {data.run_link && <a href={data.run_link} target="_blank" rel="noopener noreferrer">Open the run in MLflow</a>}
      </Part>
      {data.earlier.length > 0 && (
        <Part title={`Other outcomes on record (${data.earlier.length})`} closed>
          {data.earlier.map((each, at) => (
            <div key={at}>
              <span class="ll-muted">{new Date(each.at * 1000).toLocaleString()} · {each.status}</span>
              <Text text={each.text} />
            </div>
          ))}
        </Part>
      )}
    </>
  );
}

function Part({ title, closed, children }: { title: string; closed?: boolean; children: ComponentChildren }) {
  return (
    <details open={!closed}>
      <summary>{title}</summary>
      {children}
    </details>
  );
}

function Text({ text }: { text: string }) {
  return <div class="llg-text">{text}</div>;
}

function Pairs({ pairs }: { pairs: [string, string][] }) {
  return (
    <dl>
      {pairs.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
