/** What opens beside the item: the guide with its examples, and the keys. */

import { useLayoutEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { levelKeys } from "./answers";
import { Text } from "./texts";
import type { Mode, Opened } from "./wire";

export function Drawer({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => heading.current?.focus(), [title]);
  return (
    <section class="lr-drawer" aria-label={title}>
      <div class="lr-row lr-between">
        <h3 tabIndex={-1} ref={heading}>
          {title}
        </h3>
        <button type="button" onClick={onClose}>
          <kbd>Esc</kbd> Close
        </button>
      </div>
      {children}
    </section>
  );
}

export function Guide({ opened }: { opened: Opened }) {
  return (
    <>
      <p>
        <b>{opened.question}</b>
      </p>
      {opened.guide && <Text text={opened.guide} pane="markdown" />}
      {opened.levels.length > 0 && (
        <dl class="lr-levels">
          {opened.levels.map((level) => (
            <>
              <dt>{String(level.value)}</dt>
              <dd>{level.text}</dd>
            </>
          ))}
        </dl>
      )}
      {opened.examples.length > 0 && <h4>Examples</h4>}
      {opened.examples.map((example) => (
        <blockquote class="lr-example">
          <Text text={example.text} pane="plain" />
          {example.value !== null && (
            <p>
              is rated <b>{String(example.value)}</b>
            </p>
          )}
        </blockquote>
      ))}
    </>
  );
}

/** The keys of a mode, as [key, what it does]. */
export function keysOf(opened: Opened): [string, string][] {
  const own: Record<Mode, () => [string, string][]> = {
    single: () => {
      const keys = levelKeys(opened.levels);
      return opened.levels.flatMap((level, at): [string, string][] => (keys[at] ? [[keys[at] as string, `rate ${String(level.value)}`]] : []));
    },
    pairwise: () => [
      ["A", "A is better"],
      ["B", "B is better"],
      ["E", "both are equally good"],
      ["N", "both are bad"],
      ["D", "mark where they differ"],
    ],
    ranking: () => [
      ["1-9", "this side comes next"],
      ["=", "the next one ties with the one before"],
      ["Backspace", "take the last one out"],
      ["Enter", "save the ranking"],
      ["D", "mark where they differ from the first"],
    ],
  };
  return [
    ...own[opened.mode](),
    ["J", "next item"],
    ["K", "item before"],
    ["U", "undo: take the last answer back"],
    ["S", "skip, with a reason"],
    ["F", "flag"],
    ["C", "comment"],
    ["R", "correction: how it should read"],
    ["V", "Markdown, plain or source"],
    ["X", "all of long texts, or their beginning"],
    ["G", "guide and examples"],
    ["?", "these keys"],
    ["Esc", "out of a field, close what is open"],
  ];
}

export function Keys({ opened }: { opened: Opened }) {
  return (
    <dl class="lr-keys">
      {keysOf(opened).map(([key, does]) => (
        <div>
          <dt>
            <kbd>{key}</kbd>
          </dt>
          <dd>{does}</dd>
        </div>
      ))}
    </dl>
  );
}
