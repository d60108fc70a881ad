import { render } from "preact";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Markdown, Picture, Plain } from "./text";

let root: HTMLElement;
beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  render(null, root);
  root.remove();
});

function drawn(text: string): HTMLElement {
  render(<Markdown text={text} />, root);
  return root;
}

const PIXEL = "data:image/png;base64,iVBORw0KGgo=";
const HOSTILE = [
  "<script>window.hurt = 1</script>",
  "<img src=x onerror='window.hurt = 1'>",
  "text <img src=http://evil.test/b.png> text",
  "<svg onload='window.hurt = 1'><script>window.hurt = 1</script></svg>",
  "<svg><style>@import url(http://evil.test/a.css)</style></svg>",
  "<style>body { background: url(http://evil.test/a.png) }</style>",
  "<link rel=stylesheet href=http://evil.test/a.css>",
  "<div style='background: url(http://evil.test/a.png)'>x</div>",
  "<iframe src='javascript:window.hurt = 1'></iframe>",
  "<iframe srcdoc='<script>parent.hurt = 1</script>'></iframe>",
  "<form action=http://evil.test><input autofocus onfocus='window.hurt = 1'></form>",
  "<a href='javascript:window.hurt = 1'>click</a>",
  "<base href=http://evil.test><meta http-equiv=refresh content='0;url=http://evil.test'>",
  "<video src=http://evil.test/v onerror='window.hurt = 1'></video>",
  "<object data=http://evil.test></object><embed src=http://evil.test>",
  "<math><mtext><table><mglyph><style><img src=x onerror='window.hurt = 1'>",
  "[click](javascript:window.hurt=1)",
  "[click](JaVaScRiPt:window.hurt=1 'title')",
  "[click](data:text/html,<script>window.hurt=1</script>)",
  "[click]: javascript:window.hurt=1\n\n[click]",
  "<javascript:window.hurt=1>",
  "![beacon](http://evil.test/b.png)",
  "![beacon](//evil.test/b.png 'x')",
  "![x](data:image/svg+xml;base64,PHN2Zy8+)",
  "![x](data:image/png;base64,iVBO\"onerror=\"window.hurt=1)",
  "![x][y]\n\n[y]: http://evil.test/b.png",
  "https://evil.test www.evil.test a@evil.test",
  "| <img src=x onerror=alert(1)> |\n|-|\n| [x](javascript:alert(1)) |",
  "> <script>window.hurt = 1</script>\n- <script>window.hurt = 1</script>",
  "```html\n<script>window.hurt = 1</script>\n```",
  "`<script>window.hurt = 1</script>`",
  "# <img src=x onerror=alert(1)>",
  "**<b onmouseover=alert(1)>bold</b>**",
];

test.each(HOSTILE)("nothing of %j becomes more than text", (text) => {
  drawn(text);
  expect(root.querySelectorAll("script, img, svg, style, link, iframe, form, a, base, meta, video, object, embed, math, [style]")).toHaveLength(0);
  expect([...root.querySelectorAll("*")].flatMap((element) => element.getAttributeNames()).filter((name) => name.startsWith("on"))).toEqual([]);
  expect([...root.querySelectorAll("[src], [href], [action], [srcdoc]")]).toEqual([]);
  const words = text.match(/\b(?:alert|window\.hurt|evil\.test)\b/g) ?? [];
  expect(words.length > 0 && root.textContent?.includes(words[0] ?? "")).toBe(words.length > 0); // it can be read
  expect((window as { hurt?: number }).hurt).toBeUndefined();
});

test("Markdown is drawn", () => {
  drawn("# Title\n\ntext **bold** *leaning* ~~gone~~ `code` &lt; 5 < 6\n\n1. one\n   - inner\n2. two\n\n- [x] done\n\n> said\n\n| a | b |\n|-|-|\n| 1 | 2 |\n\n```py\nx = 1\n```\n\n---\n");
  for (const name of ["h3", "strong", "em", "del", "code", "ol > li ul", "input[type=checkbox]", "blockquote", "td", "pre > code", "hr"])
    expect(root.querySelector(name), name).not.toBeNull();
  expect(root.querySelector("pre")?.textContent).toBe("x = 1");
  expect(root.textContent).toContain("&lt; 5 < 6"); // as written
});

test("a link is its text and its address, to read and not to click", () => {
  drawn("see [the manual](https://example.test/manual) and https://example.test/other");
  expect(root.textContent).toBe("see the manual (https://example.test/manual) and https://example.test/other");
});

test("a picture is drawn when its data are in the text and are of a kind that cannot act", () => {
  render(
    <>
      <Markdown text={`![dot](${PIXEL})`} />
      <Picture src={PIXEL} alt="dot" />
      {["http://evil.test/a.png", "data:image/svg+xml;base64,AAAA", "data:text/html;base64,AAAA", "javascript:alert(1)", `${PIXEL}" onerror="x`].map((src) => (
        <Picture src={src} />
      ))}
    </>,
    root,
  );
  expect([...root.querySelectorAll("img")].map((each) => [each.getAttribute("src"), each.alt])).toEqual([
    [PIXEL, "dot"],
    [PIXEL, "dot"],
  ]);
  expect(root.textContent?.match(/picture not shown/g)).toHaveLength(5);
});

// Each of these takes a parser that looks ahead with regular expressions seconds, or all of the stack.
test.each([
  ["links", "[a](", 25_000],
  ["pictures", "![](", 25_000],
  ["links in links", "[", 20_000, "](x)", 20_000],
  ["quotes", ">", 100_000],
  ["lists", "- ", 50_000],
  ["numbers", "1. ", 33_000],
  ["emphasis", "*a _b ", 15_000],
  ["emphasis in emphasis", "**a *b ", 7_000, "*", 50_000],
  ["backticks", "`a``", 2_000],
  ["dashes", "-", 99_000, "x"],
  ["rules", "- ", 49_000, "x"],
  ["a table's rule", "|-", 49_000, "x"],
  ["hashes", " #", 49_000, "x"],
  ["quotes in lists", "1. > - ", 14_000],
  ["items", "- a\n  ", 1_000],
  ["brackets", "[a][", 25_000],
] as [string, string, number, string?, number?][])("no text holds up the page, and all of it is there: %s", (_, unit, count, end = "", ends = 1) => {
  const text = `${unit.repeat(count)}${end.repeat(ends)}`;
  drawn(text);
  const letters = (whole: string) => whole.match(/[a-z]/g)?.length ?? 0;
  expect(letters(root.textContent ?? "")).toBeGreaterThanOrEqual(letters(text));
  const depth = (element: Element): number => Math.max(0, ...[...element.children].map(depth)) + 1;
  expect(depth(root)).toBeLessThan(80);
});

test("a megabyte is shown as it is", () => {
  const text = "**word** ".repeat(120_000);
  drawn(text);
  expect(root.querySelector(".ll-plain")?.textContent).toBe(text);
});

test.each([
  ["*one* **two** ***three*** ~~four~~ _five_ __six__", "<em>one</em> <strong>two</strong> <strong><em>three</em></strong> <del>four</del> <em>five</em> <strong>six</strong>"],
  ["snake_case_name, 2 * 3 * 4, **open, a*b*c", "snake_case_name, 2 * 3 * 4, **open, a<em>b</em>c"],
  ["**bold with *leaning* in it**", "<strong>bold with <em>leaning</em> in it</strong>"],
  ["*crossed **marks* stay**", "<em>crossed **marks</em> stay**"],
  ["\\*no\\* `a*b*` ``x`y`` `open", "*no* <code>a*b*</code> <code>x`y</code> `open"],
  ["&lt; 5 < 6 <b>", "&amp;lt; 5 &lt; 6 &lt;b>"],
])("inside a line: %s", (text, html) => {
  drawn(text);
  expect(root.querySelector("p")?.innerHTML.replaceAll("&gt;", ">")).toBe(html);
});

test.each([
  ["one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"],
  ["# A #\n###### B\n#tag", "<h3>A</h3><h6>B</h6><p>#tag</p>"],
  ["- a\n  - b\n    - c\n- d", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ul>"],
  ["1. a\n   more\n\n   para\n2. b\n\n\ntext", '<ol start="1"><li>a\nmore<p>para</p></li><li>b</li></ol><p>text</p>'],
  ["3) c\n\n4) d", '<ol start="3"><li>c</li><li>d</li></ol>'],
  ["Steps:\n1. a\n   ```\n   x\n   ```\n2. b", '<p>Steps:</p><ol start="1"><li>a<pre tabindex="0"><code>x</code></pre></li><li>b</li></ol>'],
  ["It was\n1999. A year.", "<p>It was\n1999. A year.</p>"],
  ["> a\n> - b\n\nc", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>"],
  ["a | b\n--|:-:\n1 | x\\|y | 9\n2\n\nend", "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>x|y</td></tr><tr><td>2</td><td></td></tr></tbody></table><p>end</p>"],
  ["~~~\na\n```\n~~~\nb\n***", '<pre tabindex="0"><code>a\n```</code></pre><p>b</p><hr>'],
  ["```py\nopen", '<pre tabindex="0"><code>open</code></pre>'],
  ["    x = 1\n\n    y\nz", '<pre tabindex="0"><code>x = 1\n\ny</code></pre><p>z</p>'],
  ["", ""],
])("blocks: %j", (text, html) => {
  drawn(text);
  expect(root.querySelector(".ll-markdown")?.innerHTML).toBe(html);
});

test("code is long and full of marks, and still drawn as code", () => {
  const code = `${"x[i](*a_b*) = `y`;".repeat(40)}\n`.repeat(40);
  drawn(`Here:\n\n~~~js\n${code}~~~\n\nThat was **it**.`);
  expect(root.querySelector("pre > code")?.textContent).toBe(code.trimEnd());
  expect(root.querySelector("strong")?.textContent).toBe("it");
});

test("plain text keeps its lines and its angle brackets", () => {
  render(<Plain text={"a\n  <b>&amp;"} />, root);
  expect(root.textContent).toBe("a\n  <b>&amp;");
  expect(root.querySelector("b")).toBeNull();
});
