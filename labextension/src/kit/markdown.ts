// Markdown as models write it, read in time that grows with its length alone. (A parser with regular expressions for links takes seven
// seconds for 4,000 characters of "![](", and a third of what a view may weigh.) What is not known here stays as it was written: HTML,
// entities, references.

export type Block =
  | { kind: "heading"; level: number; inline: Inline[] }
  | { kind: "paragraph"; inline: Inline[] }
  | { kind: "code"; text: string }
  | { kind: "rule" }
  | { kind: "quote"; blocks: Block[] }
  | { kind: "list"; ordered: boolean; start: number; items: Item[] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] };

export interface Item {
  /** Of a task list: ticked or not; null elsewhere. */
  done: boolean | null;
  blocks: Block[];
}

export type Inline =
  | string
  | { kind: "code"; text: string }
  | { kind: "strong" | "em" | "strongem" | "del"; inside: Inline[] }
  | { kind: "link"; inside: Inline[]; href: string }
  | { kind: "picture"; alt: string; src: string };

const DEEPEST = 12;
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})(?=\s|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;
const UNDER_HEAD = /^[ |:-]+$/;

/** The blocks of a text. */
export function blocks(text: string): Block[] {
  return read(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0);
}

function read(lines: string[], depth: number): Block[] {
  const made: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at]!;
    if (!line.trim()) at++;
    else if (depth > DEEPEST) {
      made.push({ kind: "paragraph", inline: [lines.slice(at).join("\n")] });
      at = lines.length;
    } else {
      const [block, next] = one(lines, at, line, depth);
      made.push(block);
      at = next;
    }
  }
  return made;
}

function one(lines: string[], at: number, line: string, depth: number): [Block, number] {
  const fence = FENCE.exec(line)?.[1];
  if (fence) return fenced(lines, at, fence);
  if (line.startsWith("    ")) return indented(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [{ kind: "heading", level: heading[1]!.length, inline: inlines(line.slice(heading[0].length).trim().replace(/(?:^|\s)#+$/, "")) }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (QUOTE.test(line)) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end]!)) end++;
    return [{ kind: "quote", blocks: read(lines.slice(at, end).map((each) => each.replace(QUOTE, "")), depth + 1) }, end];
  }
  if (ITEM.test(line)) return list(lines, at, depth);
  if (startsTable(lines, at)) return table(lines, at);
  let end = at + 1;
  while (end < lines.length && lines[end]!.trim() && !interrupts(lines, end)) end++;
  const text = lines.slice(at, end).map((each) => each.trim()).join("\n");
  return [{ kind: "paragraph", inline: inlines(text) }, end];
}

/** Whether a block begins here without a blank line before it. */
function interrupts(lines: string[], at: number): boolean {
  const line = lines[at]!;
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || startsTable(lines, at)) return true;
  const item = ITEM.exec(line);
  return !!item && item[3] !== "" && (item[2]!.length === 1 || /^1[.)]$/.test(item[2]!)); // a year at a line's start begins no list
}

function fenced(lines: string[], at: number, fence: string): [Block, number] {
  let end = at + 1;
  const closes = (line: string) => {
    const mark = line.trim();
    return mark.length >= fence.length && !mark.split(fence[0]!).join("") && !line.startsWith("    ");
  };
  while (end < lines.length && !closes(lines[end]!)) end++;
  return [{ kind: "code", text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function indented(lines: string[], at: number): [Block, number] {
  let end = at;
  while (end < lines.length && (lines[end]!.startsWith("    ") || !lines[end]!.trim())) end++;
  const text = lines.slice(at, end).map((line) => line.slice(4)).join("\n");
  return [{ kind: "code", text: text.trimEnd() }, end];
}

function list(lines: string[], at: number, depth: number): [Block, number] {
  const first = ITEM.exec(lines[at]!)!;
  const ordered = first[2]!.length > 1;
  const items: Item[] = [];
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]!);
    if (!found || found[2]!.length > 1 !== ordered || RULE.test(lines[at]!) || found[1]!.length >= first[1]!.length + 2) break;
    const [inside, next] = itemLines(lines, at, found);
    const task = /^\[([ xX])\] +/.exec(inside[0]!);
    if (task) inside[0] = inside[0]!.slice(task[0].length);
    items.push({ done: task ? task[1] !== " " : null, blocks: read(inside, depth + 1) });
    at = next;
    while (at < lines.length && !lines[at]!.trim() && at + 1 < lines.length && ITEM.test(lines[at + 1]!)) at++;
  }
  return [{ kind: "list", ordered, start: Number.parseInt(first[2]!, 10) || (ordered ? 0 : 1), items }, at];
}

/** The lines of an item without their indent, and where the next thing begins. Two blanks are indent enough: models write so. */
function itemLines(lines: string[], at: number, found: RegExpExecArray): [string[], number] {
  const column = found[0].length;
  const least = Math.min(column, found[1]!.length + 2);
  const inside = [lines[at]!.slice(column)];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const line = lines[end]!;
    const indent = line.length - line.trimStart().length;
    if (!line.trim()) {
      if (!lines[end + 1]?.startsWith(" ".repeat(least))) break;
      inside.push("");
    } else if (indent >= least) inside.push(line.slice(Math.min(indent, column)));
    else if (ITEM.test(line) || interrupts(lines, end)) break;
    else inside.push(line); // goes on with the paragraph
  }
  return [inside, end];
}

function startsTable(lines: string[], at: number): boolean {
  const under = lines[at + 1];
  return under !== undefined && lines[at]!.includes("|") && under.includes("|") && under.includes("-") && UNDER_HEAD.test(under);
}

function table(lines: string[], at: number): [Block, number] {
  const head = cells(lines[at]!);
  let end = at + 2;
  const rows: Inline[][][] = [];
  while (end < lines.length && lines[end]!.trim() && !interrupts(lines, end)) {
    const row = cells(lines[end++]!);
    rows.push(head.map((_, column) => row[column] ?? []));
  }
  return [{ kind: "table", head, rows }, end];
}

function cells(line: string): Inline[][] {
  const parts: string[] = [];
  const text = line.trim().replace(/^\|/, "");
  let part = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\" && text[i + 1] === "|") part += text[++i];
    else if (text[i] !== "|") part += text[i];
    else {
      parts.push(part);
      part = "";
    }
  }
  if (part.trim() || !parts.length) parts.push(part);
  return parts.map((part) => inlines(part.trim()));
}

// ---- inside a block: one pass finds marks and code, one pairs the marks, one builds the tree

interface Mark {
  mark: string;
  opens: boolean;
  closes: boolean;
  /** Where its partner stands among the pieces; -1: it is text. */
  partner: number;
}

type Piece = Exclude<Inline, { inside: Inline[] }> | { kind: "link"; text: string; href: string } | Mark;

const KINDS: Record<string, "strong" | "em" | "strongem" | "del"> = { "**": "strong", __: "strong", "*": "em", _: "em", "***": "strongem", ___: "strongem", "~~": "del" };
const ESCAPABLE = /[!-/:-@[-`{-~]/;

/** The pieces of a text without blocks. */
export function inlines(text: string, depth = 0): Inline[] {
  if (depth > DEEPEST) return [text];
  const pieces = scan(text);
  pair(pieces);
  return build(pieces, depth);
}

function scan(text: string): Piece[] {
  const pieces: Piece[] = [];
  const square = partners(text, "[", "]");
  const round = partners(text, "(", ")");
  const hopeless = new Set<number>(); // lengths of backtick runs that have no partner further on
  let plain = "";
  const push = (piece: Piece) => {
    if (plain) pieces.push(plain);
    plain = "";
    pieces.push(piece);
  };
  let at = 0;
  while (at < text.length) {
    const letter = text[at]!;
    if (letter === "\\" && ESCAPABLE.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else if (letter === "`") {
      const length = runLength(text, at);
      const end = hopeless.has(length) ? -1 : closing(text, at + length, length);
      if (end < 0) {
        hopeless.add(length);
        plain += text.slice(at, at + length);
        at += length;
      } else {
        const code = text.slice(at + length, end);
        push({ kind: "code", text: code.startsWith(" ") && code.endsWith(" ") && code.trim() ? code.slice(1, -1) : code });
        at = end + length;
      }
    } else if (letter === "*" || letter === "_" || letter === "~") {
      const length = runLength(text, at);
      push(mark(text, at, length));
      at += length;
    } else {
      const found = letter === "[" || (letter === "!" && text[at + 1] === "[") ? reference(text, at, square, round) : null;
      if (found) {
        push(found.piece);
        at = found.end;
      } else {
        plain += letter;
        at++;
      }
    }
  }
  if (plain) pieces.push(plain);
  return pieces;
}

function runLength(text: string, at: number): number {
  let end = at;
  while (text[end] === text[at]) end++;
  return end - at;
}

function closing(text: string, from: number, length: number): number {
  for (let at = text.indexOf("`", from); at >= 0; at = text.indexOf("`", at)) {
    const run = runLength(text, at);
    if (run === length) return at;
    at += run;
  }
  return -1;
}

/** Where each opening bracket is closed. */
function partners(text: string, open: string, close: string): Map<number, number> {
  const found = new Map<number, number>();
  const waiting: number[] = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === open) waiting.push(at);
    else if (text[at] === close && waiting.length) found.set(waiting.pop()!, at);
  }
  return found;
}

/** `[text](address "title")`, or the same as a picture. */
function reference(text: string, at: number, square: Map<number, number>, round: Map<number, number>): { piece: Piece; end: number } | null {
  const picture = text[at] === "!";
  const open = picture ? at + 1 : at;
  const close = square.get(open);
  if (close === undefined || text[close + 1] !== "(") return null;
  const end = round.get(close + 1);
  if (end === undefined) return null;
  const words = text.slice(close + 2, end).trim().split(/\s+/, 1)[0] ?? "";
  const address = words.replace(/^<|>$/g, "");
  const inside = text.slice(open + 1, close);
  return { piece: picture ? { kind: "picture", alt: inside, src: address } : { kind: "link", text: inside, href: address }, end: end + 1 };
}

function mark(text: string, at: number, length: number): Mark | string {
  const whole = text.slice(at, at + length);
  if (!(whole in KINDS)) return whole;
  const before = text[at - 1] ?? " ";
  const after = text[at + length] ?? " ";
  const blank = (letter: string) => /\s/.test(letter);
  const sign = (letter: string) => /[\p{P}\p{S}]/u.test(letter);
  const left = !blank(after) && (!sign(after) || blank(before) || sign(before));
  const right = !blank(before) && (!sign(before) || blank(after) || sign(after));
  const word = whole[0] === "_"; // snake_case is no emphasis
  return { mark: whole, opens: left && (!word || !right || sign(before)), closes: right && (!word || !left || sign(after)), partner: -1 };
}

function pair(pieces: Piece[]): void {
  const open: number[] = [];
  const count = new Map<string, number>();
  pieces.forEach((piece, index) => {
    if (typeof piece === "string" || !("mark" in piece)) return;
    if (piece.closes && (count.get(piece.mark) ?? 0) > 0) {
      for (;;) {
        const other = open.pop()!;
        const opener = pieces[other] as Mark;
        count.set(opener.mark, count.get(opener.mark)! - 1);
        if (opener.mark !== piece.mark) continue; // crossed: it stays text
        [opener.partner, piece.partner] = [index, other];
        return;
      }
    }
    if (piece.opens) {
      open.push(index);
      count.set(piece.mark, (count.get(piece.mark) ?? 0) + 1);
    }
  });
}

function build(pieces: Piece[], depth: number): Inline[] {
  const levels: Inline[][] = [[]];
  pieces.forEach((piece, index) => {
    const here = levels[levels.length - 1]!;
    const say = (text: string) => {
      if (typeof here.at(-1) === "string") here[here.length - 1] += text;
      else here.push(text);
    };
    if (typeof piece === "string") say(piece);
    else if (!("mark" in piece)) here.push(piece.kind === "link" ? { kind: "link", inside: inlines(piece.text, depth + 1), href: piece.href } : piece);
    else if (piece.partner > index && levels.length > DEEPEST) {
      (pieces[piece.partner] as Mark).partner = -1; // deep enough
      say(piece.mark);
    } else if (piece.partner > index) levels.push([]);
    else if (piece.partner >= 0) {
      const inside = levels.pop()!;
      levels[levels.length - 1]!.push({ kind: KINDS[piece.mark]!, inside });
    } else say(piece.mark);
  });
  return levels[0]!;
}
