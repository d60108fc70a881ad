// The card of one job: its state, how far it is, the end of its log, a button that cancels it; at the end how it ended and what lies where.
import { useEffect, useRef, useState } from "preact/hooks";
import type { CommHost } from "../kit/comm";
import { useKeptFocus } from "../kit/focus";
import { type Host, told } from "../kit/host";
import type { JobState } from "./wire";
import "./job.css";

export function JobView({ host }: { host: Host }) {
  const [job, setJob] = useState<JobState | null>(null);
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState(false);
  const root = useRef<HTMLElement>(null);
  const focus = useKeptFocus(root);
  // A kernel that has gone tells nothing any more: what is shown then is how the job stood, and not how it stands.
  const dead = (host as Partial<CommHost>).ended?.value ?? false;
  useEffect(() => {
    const stop = host.listen((event: JobState) => setJob(event));
    host.call<JobState>("state").then(
      ({ data }) => setJob((known) => (known?.over ? known : data)),
      (error) => setProblem(told(error)),
    );
    return stop;
  }, [host]);

  const cancel = () => {
    setAsked(true);
    host.call<JobState>("cancel").then(
      ({ data }) => setJob(data),
      (error) => {
        setAsked(false);
        setProblem(told(error));
      },
    );
  };

  return (
    <section class="lj-card" aria-label={job ? `job ${job.template}` : "job"} tabIndex={-1} ref={root} {...focus}>
      {job && <Head job={job} dead={dead} />}
      {job && <Bar job={job} />}
      {job && <Log lines={job.log} />}
      {job?.error && <div class="ll-error lj-text">{job.error}</div>}
      {job && !job.over && !dead && (
        <button type="button" disabled={asked || job.cancelling} onClick={cancel}>
          {asked || job.cancelling ? "Cancelling …" : "Cancel"}
        </button>
      )}
      {job?.over && <Pairs of={job.told} kind="lj-told" />}
      {job?.over && <Places job={job} />}
      {[job?.trouble, job?.silent, problem].filter(Boolean).map((text) => (
        <div class="ll-warn lj-text" role="alert">
          {text}
        </div>
      ))}
    </section>
  );
}

function Head({ job, dead }: { job: JobState; dead: boolean }) {
  const elapsed = useElapsed(job, dead);
  const state = job.state.replaceAll("_", " ");
  const facts = [
    job.waits,
    job.total ? `${job.done} of ${job.total} cells` : "",
    job.attempt > 1 ? `attempt ${job.attempt} of ${job.attempts}` : "",
    elapsed === null ? "" : duration(elapsed),
  ].filter(Boolean);
  return (
    <div class="lj-head">
      <strong>{job.template}</strong>
      <span class={`lj-state ${tone(job)}`} role="status">
        {dead && !job.over ? `${state} when this was last live` : state}
      </span>
      <span>{facts.join(" · ")}</span>
      <span class="ll-muted">{job.id}</span>
    </div>
  );
}

function Bar({ job }: { job: JobState }) {
  if (!job.total) return null;
  return (
    <progress class={`lj-bar ${tone(job)}`} max={job.total} value={job.done} aria-label="cells done">
      {job.done} of {job.total}
    </progress>
  );
}

function Log({ lines }: { lines: string[] }) {
  const box = useRef<HTMLPreElement>(null);
  const held = useRef(false); // somebody has scrolled up to read
  useEffect(() => {
    if (box.current && !held.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  if (!lines.length) return null;
  const scrolled = ({ currentTarget: it }: { currentTarget: HTMLPreElement }) => {
    held.current = it.scrollHeight - it.scrollTop - it.clientHeight > 20;
  };
  return (
    <pre class="lj-log" ref={box} tabIndex={0} aria-label="the end of the log" onScroll={scrolled}>
      {lines.join("\n")}
    </pre>
  );
}

function Places({ job }: { job: JobState }) {
  const places: [string, string][] = [
    ["exit code", String(job.exit_code ?? "none")],
    ["notebook", job.notebook],
    ["MLflow run", job.run_id ?? ""],
  ];
  return <Pairs of={places.filter(([, text]) => text)} kind="lj-places" />;
}

function Pairs({ of: pairs, kind }: { of: [string, string][]; kind: string }) {
  if (!pairs.length) return null;
  return (
    <dl class={`lj-pairs ${kind}`}>
      {pairs.map(([name, text]) => (
        <div>
          <dt>{name}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

function tone(job: JobState): string {
  if (!job.over) return "";
  return job.state === "succeeded" ? "ll-good" : "ll-bad";
}

/** Seconds that it has run; they go on between what the kernel tells. */
function useElapsed(job: JobState, dead: boolean): number | null {
  const [at, setAt] = useState({ told: job, since: Date.now(), now: Date.now() });
  const runs = job.state === "running" && !dead;
  useEffect(() => {
    setAt({ told: job, since: Date.now(), now: Date.now() });
    if (!runs) return;
    const timer = setInterval(() => setAt((known) => ({ ...known, now: Date.now() })), 1000);
    return () => clearInterval(timer);
  }, [job, runs]);
  if (job.elapsed === null) return null;
  return job.elapsed + (runs && at.told === job ? (at.now - at.since) / 1000 : 0);
}

export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
