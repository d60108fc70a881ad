/** The buttons that rate, one set a mode. Each says its key. */

import { LETTERS, place, ranked, type Ranks, ranksOf, shown, stored, takeLast } from "./sides";
import type { Level, Opened, Task, Value } from "./wire";

export interface Choice {
  key: string;
  value: Value;
  label: string;
  text: string;
}

/** Levels have their own digit as key where each is one, else their place. */
export function levelKeys(levels: Level[]): (string | null)[] {
  const own = levels.every((level) => /^[0-9]$/.test(String(level.value)));
  return levels.map((level, at) => (own ? String(level.value) : at < 9 ? String(at + 1) : null));
}

export function choices(opened: Opened, task: Task): Choice[] {
  if (opened.mode === "single") {
    const keys = levelKeys(opened.levels);
    return opened.levels.map((level, at) => ({ key: keys[at] ?? "", value: level.value, label: String(level.value), text: level.text }));
  }
  if (opened.mode === "ranking") return [];
  const side = (letter: string) => stored("pairwise", letter, task.side_order);
  return [
    { key: "a", value: side("A"), label: "A", text: "is better" },
    { key: "b", value: side("B"), label: "B", text: "is better" },
    { key: "e", value: "tie", label: "Tie", text: "equally good" },
    { key: "n", value: "bad", label: "Both bad", text: "neither is good" },
  ];
}

interface Buttons {
  choices: Choice[];
  question: string;
  saved: Value | null;
  pending: Value | null;
  disabled: boolean;
  onAnswer: (value: Value) => void;
}

export function Choices({ choices, question, saved, pending, disabled, onAnswer }: Buttons) {
  const wide = choices.some((choice) => choice.text.length > 28);
  return (
    <div class={wide ? "lr-answers lr-wide" : "lr-answers"} role="group" aria-label={question}>
      {choices.map((choice) => (
        <button
          type="button"
          key={String(choice.value)}
          class={choice.value === pending ? "lr-answer lr-pending" : "lr-answer"}
          aria-pressed={choice.value === saved && pending === null}
          aria-keyshortcuts={choice.key.toUpperCase() || undefined}
          disabled={disabled}
          onClick={(event) => event.detail < 2 && onAnswer(choice.value)}
        >
          {choice.key && <kbd>{choice.key.toUpperCase()}</kbd>}
          {choice.label.toUpperCase() !== choice.key.toUpperCase() && <b>{choice.label}</b>}
          {choice.text && <span>{choice.text}</span>}
        </button>
      ))}
    </div>
  );
}

export interface Ranking {
  ranks: Ranks;
  tied: boolean;
}

export function startRanking(task: Task | null): Ranking {
  const value = task?.mine?.value;
  return { ranks: typeof value === "string" ? ranksOf(String(shown("ranking", value, task?.side_order ?? ""))) : [], tied: false };
}

/** What a key does to a ranking; null when it is no key of a ranking. */
export function rankingKey(key: string, now: Ranking, sides: number): Ranking | null {
  const letter = /^[1-9]$/.test(key) ? LETTERS[Number(key) - 1] : undefined;
  if (letter !== undefined && Number(key) <= sides) return { ranks: place(full(now, sides) ? [] : now.ranks, letter, now.tied), tied: false };
  if (key === "=") return { ...now, tied: now.ranks.length > 0 && !now.tied };
  if (key === "Backspace") return now.tied ? { ...now, tied: false } : { ranks: takeLast(now.ranks), tied: false };
  return null;
}

export function full(now: Ranking, sides: number): boolean {
  return now.ranks.flat().length === sides;
}

/** The ranking as it is stored; null until every side has its place. */
export function rankingValue(now: Ranking, task: Task): string | null {
  return full(now, task.sides.length) ? String(stored("ranking", ranked(now.ranks), task.side_order)) : null;
}

interface RankingButtons {
  task: Task;
  now: Ranking;
  question: string;
  saved: Value | null;
  pending: Value | null;
  disabled: boolean;
  onKey: (key: string) => void;
  onAnswer: (value: Value) => void;
}

export function Rank({ task, now, question, saved, pending, disabled, onKey, onAnswer }: RankingButtons) {
  const value = rankingValue(now, task);
  const placed = new Set(now.ranks.flat());
  const kept = value !== null && value === (pending ?? saved);
  return (
    <div class="lr-ranking" role="group" aria-label={question}>
      <div class="lr-answers">
        {task.sides.map((side, at) => (
          <button
            type="button"
            class="lr-answer"
            key={side.side}
            aria-keyshortcuts={String(at + 1)}
            disabled={disabled || (placed.has(side.side) && value === null)}
            onClick={(event) => event.detail < 2 && onKey(String(at + 1))}
          >
            <kbd>{at + 1}</kbd>
            <b>{side.side}</b>
            <span>{now.tied ? "ties with it" : value !== null || placed.size === 0 ? "is best" : placed.has(side.side) ? "placed" : "is next"}</span>
          </button>
        ))}
        <button type="button" class="lr-answer" aria-pressed={now.tied} disabled={disabled || now.ranks.length === 0 || value !== null} onClick={() => onKey("=")}>
          <kbd>=</kbd>
          <span>ties with the one before</span>
        </button>
        <button type="button" class="lr-answer" disabled={disabled || now.ranks.length === 0} onClick={() => onKey("Backspace")}>
          <kbd>Backspace</kbd>
          <span>take the last one out</span>
        </button>
      </div>
      <p class="lr-ranks" aria-live="polite">
        {now.ranks.length === 0 ? (
          <span class="ll-muted">Name the sides from best to worst.</span>
        ) : (
          now.ranks.map((group, at) => (
            <span class="lr-rank">
              <span class="ll-muted">{at + 1}.</span> <b>{group.join(" = ")}</b>
            </span>
          ))
        )}
      </p>
      <button
        type="button"
        class={value !== null && !kept ? "lr-answer ll-primary" : "lr-answer"}
        disabled={disabled || value === null || kept}
        aria-keyshortcuts="Enter"
        onClick={(event) => event.detail < 2 && value !== null && onAnswer(value)}
      >
        <kbd>Enter</kbd>
        <span>{kept ? "this is your ranking" : "save this ranking"}</span>
      </button>
    </div>
  );
}
