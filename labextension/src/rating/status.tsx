/** What is saved and what is not: the one place of the panel that says so. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Session } from "./session";
import { spoken } from "./sides";
import type { Mine, Value } from "./wire";

export function clock(iso: string): string {
  const at = new Date(iso);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}

const many = (count: number, one: string): string => (count === 1 ? `1 ${one}` : `${count} ${one}s`);

export function StatusLine({ session }: { session: Session }) {
  const status = session.status.value;
  const said = (() => {
    if (status.kind === "saved") {
      const { last } = status;
      return (
        <span class="lr-saved">
          <span aria-hidden="true">✓ </span>
          Saved #{last.row} {clock(last.saved_at)}
          <span class="ll-muted"> · {last.what}</span>
        </span>
      );
    }
    if (status.kind === "saving") return <span class="ll-muted">Saving …</span>;
    return null;
  })();
  return (
    <div class="lr-status">
      <span role="status" aria-live="polite">
        {said}
      </span>
      <NotSaved session={session} />
    </div>
  );
}

function NotSaved({ session }: { session: Session }) {
  const [sure, setSure] = useState(false);
  const status = session.status.value;
  const opened = session.opened.value;
  const shown = status.kind === "not-saved";
  useEffect(() => setSure(false), [shown]);
  return (
    <div role="alert">
      {shown && (
        <div class="lr-not-saved">
          <p>
            <strong>NOT SAVED ({status.count})</strong> <span>{status.why}</span>
          </p>
          <p>
            {many(status.count, "answer")}{" "}
            {status.asked
              ? "kept in this browser until you have chosen which one holds."
              : session.lasting.value
                ? "kept in this browser and sent again, also after a reload."
                : "kept on this page alone, as this browser stores nothing: download before you close it."}{" "}
            {opened && session.comm && status.lost && (
              <>
                If the kernel has ended, run the cell again or type <code>{opened.again}</code>.
              </>
            )}
          </p>
          <p class="lr-row">
            <button type="button" onClick={() => void session.flush()}>
              Try again now
            </button>
            <button type="button" onClick={() => download(session)}>
              Download what is not saved
            </button>
            {session.entries.value.some((entry) => entry.trouble && entry.trouble.type !== "Conflict") &&
              (sure ? (
                <button type="button" class="ll-bad" onClick={() => session.discard()}>
                  Really give up what was refused
                </button>
              ) : (
                <button type="button" onClick={() => setSure(true)}>
                  Give up what was refused …
                </button>
              ))}
          </p>
        </div>
      )}
    </div>
  );
}

function download(session: Session): void {
  const opened = session.opened.value;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${session.lines()}\n`], { type: "application/jsonl" }));
  link.download = `not-saved-${opened?.name ?? "ratings"}-${opened?.rater ?? ""}.jsonl`.replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Two answers of one rater for one item: both are shown, and a person says which one holds. */
export function Asked({ session }: { session: Session }) {
  const asked = session.conflict.value;
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => heading.current?.focus(), [asked]);
  if (!asked) return null;
  const mode = session.opened.value?.mode ?? "single";
  const own = asked.entries.at(-1);
  const said = (value: Value | null, skip: string | null) =>
    skip !== null ? `skipped: ${skip}` : value === null ? "taken back" : spoken(mode, value, asked.task.side_order);
  return (
    <section class="lr-asked" role="alertdialog" aria-labelledby="lr-asked">
      <h3 id="lr-asked" tabIndex={-1} ref={heading}>
        Another window of yours has rated item {asked.task.position} meanwhile
      </h3>
      <dl>
        <dt>Saved there</dt>
        <dd>{described(asked.mine, said)}</dd>
        <dt>Here, not saved</dt>
        <dd>
          <b>{said(own?.value ?? null, own?.skip ?? null)}</b>
          {own?.comment && <> · “{own.comment}”</>}
        </dd>
      </dl>
      <p class="lr-row">
        <button type="button" onClick={() => void session.keepTheirs()}>
          Keep what is saved
        </button>
        <button type="button" onClick={() => session.keepMine()}>
          Save this one instead
        </button>
      </p>
    </section>
  );
}

function described(mine: Mine | null, said: (value: Value | null, skip: string | null) => string) {
  if (!mine) return "nothing";
  return (
    <>
      <b>{said(mine.value, mine.skip)}</b>
      {mine.comment && <> · “{mine.comment}”</>} (#{mine.row}, {clock(mine.saved_at)})
    </>
  );
}
