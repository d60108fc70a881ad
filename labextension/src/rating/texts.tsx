/** What is rated: prompt, sources and the sides. All of it is somebody's text and reaches the page through kit's components alone. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Markdown, Picture, Plain } from "../kit/text";
import { marks, type Part } from "./marks";
import type { Side, Task } from "./wire";

export type Pane = "markdown" | "plain" | "source";
export const PANES: Pane[] = ["markdown", "plain", "source"];
const LONG_CHARACTERS = 1500;
const LONG_LINES = 24;

export function Text({ text, pane }: { text: string; pane: Pane }) {
  if (pane === "markdown") return <Markdown text={text} />;
  if (pane === "plain") return <Plain text={text} />;
  return (
    <div class="lr-source">
      <Plain text={text} />
    </div>
  );
}

/** Long content is cut to a height until somebody asks for all of it. */
function Folding({ text, open, children }: { text: string; open: boolean; children: ComponentChildren }) {
  const [own, setOwn] = useState<boolean | null>(null);
  useEffect(() => setOwn(null), [text, open]);
  const long = text.length > LONG_CHARACTERS || text.split("\n", LONG_LINES + 1).length > LONG_LINES;
  if (!long) return <>{children}</>;
  const all = own ?? open;
  return (
    <>
      <div class={all ? undefined : "lr-cut"}>{children}</div>
      <button type="button" class="lr-more" aria-expanded={all} onClick={() => setOwn(!all)}>
        {all ? "Show less" : `Show all ${text.length.toLocaleString("en")} characters`}
      </button>
    </>
  );
}

function Marked({ parts }: { parts: Part[] }) {
  return <div class="ll-plain">{parts.map((part) => (part.differs ? <mark class="lr-mark">{part.text}</mark> : part.text))}</div>;
}

interface Shown {
  task: Task;
  pane: Pane;
  differences: boolean;
  open: boolean;
}

/** The differences of every side from the first one; null where they are not asked for or not to be had. */
function useMarks(sides: Side[], wanted: boolean): (Part[] | null)[] | null {
  return useMemo(() => {
    const first = sides[0];
    if (!wanted || !first || sides.length < 2) return null;
    const pairs = sides.slice(1).map((side) => marks(first.text, side.text));
    const alone = pairs.length === 1 ? (pairs[0]?.[0] ?? null) : [{ text: first.text, differs: false }];
    return [alone, ...pairs.map((pair) => pair?.[1] ?? null)];
  }, [sides, wanted]);
}

export function Texts({ task, pane, differences, open }: Shown) {
  const marked = useMarks(task.sides, differences);
  const many = task.sides.length > 1;
  const failed = marked?.some((parts) => parts === null);
  return (
    <div class="lr-texts">
      {(task.prompt !== "" || task.images.length > 0) && (
        <details class="lr-box" open key={`p${task.item}`}>
          <summary>Prompt</summary>
          <Folding text={task.prompt} open={open}>
            <Text text={task.prompt} pane={pane} />
          </Folding>
          {task.images.map((src, number) => (
            <Picture src={src} alt={`picture ${number + 1} of the prompt`} />
          ))}
        </details>
      )}
      {task.sources.length > 0 && (
        <details class="lr-box" key={`s${task.item}`}>
          <summary>
            {task.sources.length === 1 ? "1 source" : `${task.sources.length} sources`}
          </summary>
          {task.sources.map((source) => (
            <section class="lr-document">
              <h4>{source.name}</h4>
              <Folding text={source.text} open={open}>
                <Text text={source.text} pane={pane} />
              </Folding>
            </section>
          ))}
        </details>
      )}
      {failed && <p class="ll-warn">These texts differ too much to be marked word by word.</p>}
      <div class={many ? "lr-sides" : undefined}>
        {task.sides.map((side, at) => (
          <section class="lr-side" key={`${task.item}/${side.side}`} aria-label={many ? `Answer ${side.side}` : "Answer"}>
            <h4>{many ? side.side : "Answer"}</h4>
            <Folding text={side.text} open={open}>
              {marked?.[at] ? <Marked parts={marked[at] as Part[]} /> : <Text text={side.text} pane={pane} />}
            </Folding>
            {side.images.map((src, number) => (
              <Picture src={src} alt={`picture ${number + 1} of answer ${side.side}`} />
            ))}
          </section>
        ))}
      </div>
    </div>
  );
}
