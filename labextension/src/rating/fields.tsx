/** What is written about an item: comment, correction, and why it is skipped. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";
import { notesOf, sameNotes } from "./drafts";
import type { Session } from "./session";

interface Fields {
  session: Session;
  comment: RefObject<HTMLTextAreaElement>;
  correction: RefObject<HTMLTextAreaElement>;
  onLeave: () => void;
}

export function Notes({ session, comment, correction, onLeave }: Fields) {
  const notes = session.notes.value;
  const { pending, mine } = session.standing.value;
  const rated = mine !== null && (mine.value !== null || mine.skip !== null);
  const changed = pending === null && !sameNotes(notes, notesOf(mine));
  const disabled = session.progress.value.closed;
  const typed = (event: KeyboardEvent) => {
    if (event.key === "Escape") onLeave();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      session.saveNotes();
      onLeave();
    }
  };
  return (
    <div class="lr-notes">
      <label>
        <span>
          <kbd>C</kbd> Comment
        </span>
        <textarea
          ref={comment}
          rows={2}
          value={notes.comment}
          disabled={disabled}
          onKeyDown={typed}
          onInput={(event) => session.setNotes({ comment: event.currentTarget.value })}
        />
      </label>
      <label>
        <span>
          <kbd>R</kbd> Correction <span class="ll-muted">how the answer should read</span>
        </span>
        <textarea
          ref={correction}
          rows={2}
          value={notes.correction}
          disabled={disabled}
          onKeyDown={typed}
          onInput={(event) => session.setNotes({ correction: event.currentTarget.value })}
        />
      </label>
      {changed && (
        <p class="lr-draft">
          {rated ? (
            <>
              <span class="ll-warn">Changed, not saved yet.</span>{" "}
              <button type="button" onClick={() => session.saveNotes()}>
                Save the notes <kbd>Ctrl+Enter</kbd>
              </button>
            </>
          ) : (
            <span class="ll-muted">Goes with your rating; not saved before.</span>
          )}
        </p>
      )}
    </div>
  );
}

const REASONS = ["I cannot judge this", "The item is broken", "I would rather not read this"];

export function Skip({ onSkip, onClose }: { onSkip: (reason: string) => void; onClose: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const [reason, setReason] = useState("");
  useLayoutEffect(() => field.current?.focus(), []); // at once: the next key is the reason's first letter, and must not rate
  return (
    <form
      class="lr-skip"
      onSubmit={(event) => {
        event.preventDefault();
        if (reason.trim()) onSkip(reason.trim());
      }}
      onKeyDown={(event) => event.key === "Escape" && onClose()}
    >
      <label>
        Why is it skipped? <input ref={field} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      <button type="submit" class="ll-primary" disabled={!reason.trim()}>
        Skip
      </button>
      {REASONS.map((each) => (
        <button type="button" key={each} onClick={(event) => event.detail < 2 && onSkip(each)}>
          {each}
        </button>
      ))}
      <button type="button" onClick={onClose}>
        <kbd>Esc</kbd> Do not skip
      </button>
    </form>
  );
}
