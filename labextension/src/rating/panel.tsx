/** The rating panel. It knows a host and nothing of what carries it. */

import type { RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useKeptFocus } from "../kit/focus";
import type { Host } from "../kit/host";
import { Choices, choices, Rank, rankingKey, rankingValue, startRanking } from "./answers";
import { Drawer, Guide, Keys } from "./drawers";
import { Notes, Skip } from "./fields";
import { Session } from "./session";
import { spoken } from "./sides";
import { Asked, clock, StatusLine } from "./status";
import { type Pane, PANES, Texts } from "./texts";
import type { Opened, Task } from "./wire";
import "./rating.css";

type Open = "guide" | "keys" | "skip" | null;

export function RatingView({ host }: { host: Host }) {
  const session = useMemo(() => new Session(host), [host]);
  useEffect(() => {
    void session.start();
    const online = () => void session.flush();
    const seen = () => (document.hidden ? session.clock.pause() : session.clock.resume());
    window.addEventListener("online", online);
    document.addEventListener("visibilitychange", seen);
    return () => {
      window.removeEventListener("online", online);
      document.removeEventListener("visibilitychange", seen);
      session.stop();
    };
  }, [session]);
  const opened = session.opened.value;
  if (opened) return <Panel session={session} opened={opened} />;
  return (
    <div class="lr-panel">
      {session.loading.value ? <p class="ll-muted">Opening the queue …</p> : null}
      {session.trouble.value && (
        <p class="ll-error" role="alert">
          {session.trouble.value}{" "}
          <button type="button" onClick={() => void session.start()}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

function Panel({ session, opened }: { session: Session; opened: Opened }) {
  const [open, setOpen] = useState<Open>(null);
  const [pane, setPane] = useState<Pane>("markdown");
  const [differences, setDifferences] = useState(false);
  const [all, setAll] = useState(false);
  const [hinted, setHinted] = useState(false);
  const [ranking, setRanking] = useState(() => startRanking(session.task.value));
  const root = useRef<HTMLDivElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const comment = useRef<HTMLTextAreaElement>(null);
  const correction = useRef<HTMLTextAreaElement>(null);
  const task = session.task.value;
  const closed = session.progress.value.closed;
  const status = session.status.value;
  const trouble = status.kind === "not-saved" && status.why === session.trouble.value ? null : session.trouble.value;
  const { mine } = session.standing.value;

  useEffect(() => setRanking(startRanking(task)), [task?.item, mine?.row]);
  useEffect(() => {
    setOpen((now) => (now === "skip" ? null : now));
    if (root.current?.contains(document.activeElement)) heading.current?.focus({ preventScroll: true });
    if (root.current && root.current.getBoundingClientRect().top < 0) heading.current?.scrollIntoView({ block: "start" });
  }, [task?.item]);

  const { onFocusIn, onFocusOut } = useKeptFocus(root);
  const leave = () => root.current?.focus({ preventScroll: true });
  const close = () => {
    setOpen(null);
    leave();
  };
  const toggle = (which: Open) => (open === which ? close() : setOpen(which));
  const rank = (key: string) => {
    const next = task && rankingKey(key, ranking, task.sides.length);
    if (next) setRanking(next);
    return Boolean(next);
  };
  const many = (task?.sides.length ?? 0) > 1;
  const commands: Record<string, () => void> = {
    j: () => void session.step(1),
    k: () => void session.step(-1),
    u: () => void session.undo(),
    s: () => task && !closed && toggle("skip"),
    f: () => session.flag(),
    c: () => comment.current?.focus(),
    r: () => correction.current?.focus(),
    v: () => setPane(PANES[(PANES.indexOf(pane) + 1) % PANES.length] as Pane),
    x: () => setAll(!all),
    g: () => toggle("guide"),
    "?": () => toggle("keys"),
    Escape: close,
    ...(many ? { d: () => setDifferences(!differences) } : {}),
  };

  const typed = (event: KeyboardEvent) => {
    session.clock.seen();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || inField(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.repeat && key !== "j" && key !== "k") return;
    const chosen = task && choices(opened, task).find((choice) => choice.key === key);
    if (chosen) session.answer(chosen.value);
    else if (opened.mode === "ranking" && task && key === "Enter" && !(event.target instanceof HTMLButtonElement)) {
      const value = rankingValue(ranking, task);
      if (value !== null) session.answer(value);
    } else if (opened.mode === "ranking" && rank(event.key)) {
      /* the ranking has changed */
    } else if (commands[key]) commands[key]();
    else return;
    event.preventDefault();
  };

  return (
    <div
      class="lr-panel"
      ref={root}
      tabIndex={-1}
      onKeyDown={typed}
      onFocusIn={onFocusIn}
      onFocusOut={onFocusOut}
      onPointerMove={() => session.clock.seen()}
      onWheel={() => session.clock.seen()}
    >
      <Head session={session} opened={opened} open={open} onToggle={toggle} />
      <StatusLine session={session} />
      <Asked session={session} />
      {open === "guide" && (
        <Drawer title="Guide" onClose={close}>
          <Guide opened={opened} />
        </Drawer>
      )}
      {open === "keys" && (
        <Drawer title="Keys" onClose={close}>
          <Keys opened={opened} />
        </Drawer>
      )}
      {trouble && (
        <p class="ll-error" role="alert">
          {trouble}
        </p>
      )}
      {task ? (
        <article class="lr-item" data-item={task.item}>
          <div class="lr-row lr-between">
            <h3 ref={heading} tabIndex={-1}>
              Item {task.position} of {task.total} <State session={session} opened={opened} task={task} />
            </h3>
            <Panes pane={pane} onPane={setPane} many={many} differences={differences} onDifferences={() => setDifferences(!differences)} />
          </div>
          <Texts task={task} pane={pane} differences={differences} open={all} />
          <h4 class="lr-question">{opened.question}</h4>
          {task.suggestion !== null && (
            <p>
              {hinted ? (
                <>
                  Suggested: <b>{spoken(opened.mode, task.suggestion, task.side_order)}</b>{" "}
                </>
              ) : null}
              <button type="button" aria-pressed={hinted} onClick={() => setHinted(!hinted)}>
                {hinted ? "Hide suggestions" : "Show the suggestion"}
              </button>
            </p>
          )}
          <Answers session={session} opened={opened} task={task} ranking={ranking} onRank={rank} />
          <p class="lr-hint" role="status">
            {session.hint.value}
          </p>
          <Actions session={session} skipping={open === "skip"} closed={closed} onSkip={() => toggle("skip")} />
          {open === "skip" && (
            <Skip
              onClose={close}
              onSkip={(reason) => {
                session.skip(reason);
                close();
              }}
            />
          )}
          <Notes session={session} comment={comment} correction={correction} onLeave={leave} />
        </article>
      ) : (
        <Done session={session} heading={heading} />
      )}
    </div>
  );
}

const inField = (target: EventTarget | null): boolean =>
  target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;

interface HeadProps {
  session: Session;
  opened: Opened;
  open: Open;
  onToggle: (which: Open) => void;
}

function Head({ session, opened, open, onToggle }: HeadProps) {
  const { done, total, closed } = session.progress.value;
  return (
    <header class="lr-head">
      <div>
        <h2>{opened.name}</h2>
        <span class="ll-muted">rated by {opened.rater}</span>
        {closed && <b class="ll-warn"> · closed</b>}
      </div>
      <div class="lr-progress">
        <progress value={done} max={Math.max(total, 1)} aria-label="rated" />
        <span>
          {done} of {total}
        </span>
        <Pace session={session} left={total - done} />
      </div>
      <div class="lr-row">
        <button type="button" aria-expanded={open === "guide"} aria-keyshortcuts="G" onClick={() => onToggle("guide")}>
          <kbd>G</kbd> Guide
        </button>
        <button type="button" aria-expanded={open === "keys"} aria-keyshortcuts="?" onClick={() => onToggle("keys")}>
          <kbd>?</kbd> Keys
        </button>
      </div>
    </header>
  );
}

function Pace({ session, left }: { session: Session; left: number }) {
  const paces = [...session.paces.value].sort((one, other) => one - other);
  const middle = paces[Math.floor(paces.length / 2)];
  if (middle === undefined || paces.length < 3) return null;
  const minutes = Math.ceil((middle * left) / 60);
  return (
    <span class="ll-muted" title="the middle of the last ratings; a pause counts as 30 s at most">
      {middle < 10 ? middle.toFixed(1) : Math.round(middle)} s each{left > 0 && ` · about ${minutes} min left`}
    </span>
  );
}

function State({ session, opened, task }: { session: Session; opened: Opened; task: Task }) {
  const { pending, mine } = session.standing.value;
  const said = pending ?? mine;
  if (!said || (said.value === null && said.skip === null)) return null;
  const what = said.skip !== null ? `skipped: ${said.skip}` : spoken(opened.mode, said.value, task.side_order);
  return (
    <span class="lr-state">
      {what}
      <span class="ll-muted">{pending ? " · not saved yet" : mine ? ` · #${mine.row} ${clock(mine.saved_at)}` : ""}</span>
    </span>
  );
}

interface PanesProps {
  pane: Pane;
  onPane: (pane: Pane) => void;
  many: boolean;
  differences: boolean;
  onDifferences: () => void;
}

function Panes({ pane, onPane, many, differences, onDifferences }: PanesProps) {
  return (
    <div class="lr-row">
      {many && (
        <button type="button" aria-pressed={differences} aria-keyshortcuts="D" onClick={onDifferences}>
          <kbd>D</kbd> Differences
        </button>
      )}
      <div class="lr-panes" role="group" aria-label="How texts are shown">
        {PANES.map((each) => (
          <button type="button" key={each} aria-pressed={each === pane} onClick={() => onPane(each)}>
            {each === "markdown" ? "Markdown" : each === "plain" ? "Plain" : "Source"}
          </button>
        ))}
      </div>
    </div>
  );
}

interface AnswersProps {
  session: Session;
  opened: Opened;
  task: Task;
  ranking: ReturnType<typeof startRanking>;
  onRank: (key: string) => void;
}

function Answers({ session, opened, task, ranking, onRank }: AnswersProps) {
  const { pending, mine } = session.standing.value;
  const common = {
    question: opened.question,
    saved: mine?.value ?? null,
    pending: pending?.value ?? null,
    disabled: session.progress.value.closed || session.conflict.value !== null,
    onAnswer: (value: Parameters<Session["answer"]>[0]) => {
      session.clock.seen();
      session.answer(value);
    },
  };
  if (opened.mode === "ranking") return <Rank task={task} now={ranking} onKey={onRank} {...common} />;
  return <Choices choices={choices(opened, task)} {...common} />;
}

interface ActionsProps {
  session: Session;
  skipping: boolean;
  closed: boolean;
  onSkip: () => void;
}

function Actions({ session, skipping, closed, onSkip }: ActionsProps) {
  return (
    <div class="lr-row lr-actions">
      <button type="button" aria-keyshortcuts="K" onClick={() => void session.step(-1)}>
        <kbd>K</kbd> Before
      </button>
      <button type="button" aria-keyshortcuts="J" onClick={() => void session.step(1)}>
        <kbd>J</kbd> Next
      </button>
      <button type="button" aria-keyshortcuts="U" disabled={closed} onClick={() => void session.undo()}>
        <kbd>U</kbd> Undo
      </button>
      <button type="button" aria-keyshortcuts="S" aria-expanded={skipping} disabled={closed} onClick={onSkip}>
        <kbd>S</kbd> Skip …
      </button>
      <button type="button" aria-keyshortcuts="F" aria-pressed={session.notes.value.flag} disabled={closed} onClick={() => session.flag()}>
        <kbd>F</kbd> {session.notes.value.flag ? "⚑ Flagged" : "Flag"}
      </button>
    </div>
  );
}

function Done({ session, heading }: { session: Session; heading: RefObject<HTMLHeadingElement> }) {
  const { done, total, skipped, closed } = session.progress.value;
  return (
    <article class="lr-item lr-done">
      <h3 ref={heading} tabIndex={-1}>
        {closed ? "This queue is closed" : done >= total ? "That was the last item" : "There is nothing for you to rate now"}
      </h3>
      <p>
        {done} of {total} items are rated{skipped > 0 && `, ${skipped} skipped`}.{" "}
        {!closed && done + skipped < total && "The others are with other raters, or have as many ratings as they shall have."}
      </p>
      <div class="lr-row">
        <button type="button" onClick={() => void session.step(-1)}>
          <kbd>K</kbd> Look back
        </button>
        <button type="button" onClick={() => void session.undo()} disabled={closed}>
          <kbd>U</kbd> Undo
        </button>
        <button type="button" onClick={() => void session.advance()}>
          Look for more
        </button>
      </div>
    </article>
  );
}
