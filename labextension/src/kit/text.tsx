// The only ways by which text of models, people and files reaches the page. All of them end in text nodes.
import type { ComponentChildren, JSX } from "preact";
import { useMemo } from "preact/hooks";
import { blocks, type Block, type Inline, type Item } from "./markdown";

/** Longer texts are shown as they are: their many elements would hold up the page. */
const LONGEST = 100_000;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+$/;

/** The text as it is, line by line. */
export function Plain({ text }: { text: string }) {
  return <div class="ll-plain">{text}</div>;
}

/** A picture that the page carries itself; nothing else is ever fetched. */
export function Picture({ src, alt = "" }: { src: string; alt?: string }) {
  return PICTURE.test(src) ? <img class="ll-picture" src={src} alt={alt} /> : <span class="ll-muted">[picture not shown: only PNG, JPEG, GIF and WebP data is]</span>;
}

/** Markdown as elements: raw HTML stays text, a link is its text and its address, a remote picture is its address. */
export function Markdown({ text }: { text: string }) {
  const read = useMemo(() => (text.length > LONGEST ? null : blocks(text)), [text]);
  return read ? <div class="ll-markdown">{read.map(block)}</div> : <Plain text={text} />;
}

type Heading = "h3" | "h4" | "h5" | "h6";

function block(it: Block): JSX.Element {
  switch (it.kind) {
    case "heading": {
      const Level = `h${Math.min(6, it.level + 2)}` as Heading; // below the headings of the view
      return <Level>{it.inline.map(inline)}</Level>;
    }
    case "paragraph":
      return <p>{it.inline.map(inline)}</p>;
    case "code":
      return (
        <pre tabIndex={0}>
          <code>{it.text}</code>
        </pre>
      );
    case "rule":
      return <hr />;
    case "quote":
      return <blockquote>{it.blocks.map(block)}</blockquote>;
    case "list":
      return it.ordered ? <ol start={it.start}>{it.items.map(item)}</ol> : <ul>{it.items.map(item)}</ul>;
    case "table":
      return (
        <table>
          <thead>
            <tr>{it.head.map((cell) => <th>{cell.map(inline)}</th>)}</tr>
          </thead>
          <tbody>
            {it.rows.map((row) => (
              <tr>{row.map((cell) => <td>{cell.map(inline)}</td>)}</tr>
            ))}
          </tbody>
        </table>
      );
  }
}

function item({ done, blocks: inside }: Item) {
  // A lone paragraph is the item's own text.
  const [first, ...rest] = inside;
  const own: ComponentChildren = first?.kind === "paragraph" ? first.inline.map(inline) : first && block(first);
  return (
    <li>
      {done !== null && <input type="checkbox" checked={done} disabled aria-label={done ? "done" : "not done"} />}
      {own}
      {rest.map(block)}
    </li>
  );
}

function inline(it: Inline): ComponentChildren {
  if (typeof it === "string") return it;
  switch (it.kind) {
    case "code":
      return <code>{it.text}</code>;
    case "strong":
      return <strong>{it.inside.map(inline)}</strong>;
    case "em":
      return <em>{it.inside.map(inline)}</em>;
    case "strongem":
      return (
        <strong>
          <em>{it.inside.map(inline)}</em>
        </strong>
      );
    case "del":
      return <del>{it.inside.map(inline)}</del>;
    case "link":
      // Never something to click: what a model wrote must not lead anybody anywhere. The address can be read.
      return (
        <span class="ll-link">
          {it.inside.map(inline)}
          {(it.inside.length !== 1 || it.inside[0] !== it.href) && <span class="ll-address"> ({it.href})</span>}
        </span>
      );
    case "picture":
      if (PICTURE.test(it.src)) return <Picture src={it.src} alt={it.alt} />;
      return (
        <span class="ll-link">
          [picture{it.alt && `: ${it.alt}`}]<span class="ll-address"> ({it.src.slice(0, 200)})</span>
        </span>
      );
  }
}
