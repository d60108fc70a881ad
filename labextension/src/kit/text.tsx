// The only ways by which text of models, people and files reaches the page. All of them end in text nodes.
import { lexer, type Token, type Tokens } from "marked";
import type { ComponentChildren, JSX } from "preact";
import { useMemo } from "preact/hooks";

// marked's time grows with the square, for links with the cube, of the marks in one block: 4,000 characters of "![](" take it seven seconds.
// Texts beyond these bounds are shown as they are.
const LONGEST = 50_000;
const LONGEST_BLOCK = 10_000;
const MOST_MARKS = 6000;
const MOST_MARKS_IN_BLOCK = 400;
const MARK = /[[\]()*_~`<!&\\^@:]/g;
const NESTED = /^(?:\s*(?:>|[-*+](?:\s|$)|\d+[.)](?:\s|$))){9}/;
const DEEPEST = 24;
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
  const tokens = useMemo(() => parsed(text), [text]);
  return tokens ? <div class="ll-markdown">{blocks(tokens, 0)}</div> : <Plain text={text} />;
}

function parsed(text: string): Token[] | null {
  if (!bearable(text)) return null;
  try {
    return lexer(text, { gfm: true });
  } catch {
    return null; // nested beyond what the parser's own recursion holds
  }
}

/** Whether marked is done with this text within a moment. What stands between fences costs it nothing. */
function bearable(text: string): boolean {
  if (text.length > LONGEST) return false;
  let length = 0;
  let marks = 0;
  let all = 0;
  let fence = "";
  for (const line of text.split("\n")) {
    if (fence) {
      if (/^ {0,3}(`+|~+)\s*$/.exec(line)?.[1]?.startsWith(fence)) fence = "";
      continue;
    }
    fence = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/.exec(line)?.[1] ?? "";
    if (fence || !line.trim()) length = marks = 0;
    else {
      length += line.length;
      const found = line.match(MARK)?.length ?? 0;
      marks += found;
      all += found;
      if (length > LONGEST_BLOCK || marks > MOST_MARKS_IN_BLOCK || all > MOST_MARKS || NESTED.test(line)) return false;
    }
  }
  return true;
}

function blocks(tokens: Token[] | undefined, depth: number): ComponentChildren {
  return tokens?.map((token) => one(token, depth + 1));
}

type Heading = "h1" | "h2" | "h3" | "h4" | "h5" | "h6";

function one(token: Token, depth: number): JSX.Element | string {
  if (depth > DEEPEST) return token.raw;
  const inside = () => blocks((token as { tokens?: Token[] }).tokens, depth);
  switch (token.type) {
    case "space":
    case "def":
      return "";
    case "heading": {
      const Level = `h${Math.min(6, (token as Tokens.Heading).depth + 2)}` as Heading; // below the headings of the view
      return <Level>{inside()}</Level>;
    }
    case "paragraph":
      return <p>{inside()}</p>;
    case "blockquote":
      return <blockquote>{inside()}</blockquote>;
    case "list":
      return list(token as Tokens.List, depth);
    case "code":
      return (
        <pre tabIndex={0}>
          <code>{(token as Tokens.Code).text}</code>
        </pre>
      );
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "table":
      return grid(token as Tokens.Table, depth);
    case "hr":
      return <hr />;
    case "br":
      return <br />;
    case "strong":
      return <strong>{inside()}</strong>;
    case "em":
      return <em>{inside()}</em>;
    case "del":
      return <del>{inside()}</del>;
    case "link":
      return link(token as Tokens.Link, depth);
    case "image":
      return picture(token as Tokens.Image);
    case "checkbox":
      return ""; // drawn by its list item
    case "text":
      return (token as Tokens.Text).tokens ? <>{inside()}</> : (token as Tokens.Text).text;
    case "escape":
      return (token as Tokens.Escape).text;
    default:
      return token.raw; // HTML, and whatever is not known here, stays text
  }
}

function list(token: Tokens.List, depth: number) {
  const items = token.items.map((item) => (
    <li>
      {item.task && <input type="checkbox" checked={item.checked} disabled aria-label={item.checked ? "done" : "not done"} />}
      {blocks(item.tokens, depth)}
    </li>
  ));
  return token.ordered ? <ol start={Number(token.start) || 1}>{items}</ol> : <ul>{items}</ul>;
}

function grid(token: Tokens.Table, depth: number) {
  return (
    <table>
      <thead>
        <tr>
          {token.header.map((cell) => (
            <th>{blocks(cell.tokens, depth)}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {token.rows.map((row) => (
          <tr>
            {row.map((cell) => (
              <td>{blocks(cell.tokens, depth)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Never something to click: what a model wrote must not lead anybody anywhere. The address can be read. */
function link(token: Tokens.Link, depth: number) {
  const same = token.text === token.href || `mailto:${token.text}` === token.href;
  return (
    <span class="ll-link">
      {blocks(token.tokens, depth)}
      {!same && <span class="ll-address"> ({token.href})</span>}
    </span>
  );
}

function picture(token: Tokens.Image) {
  if (PICTURE.test(token.href)) return <Picture src={token.href} alt={token.text} />;
  return (
    <span class="ll-link">
      [picture{token.text && `: ${token.text}`}]<span class="ll-address"> ({token.href.slice(0, 200)})</span>
    </span>
  );
}
