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

// Each of these would take marked many seconds, or all of the stack.
test.each([
  ["links", "[a](", 20_000],
  ["pictures", "![](", 20_000],
  ["quotes", ">", 50_000],
  ["lists", "- ", 50_000],
  ["numbers", "1. ", 20_000],
  ["emphasis", "*a _b ", 20_000],
  ["brackets", "[", 20_000],
  ["a fence that is none", "``` `\n[a](", 5_000],
  ["a megabyte", "word ", 200_000],
  ["quotes in lists", "1. > - ", 5_000],
])("what would hold up the page is shown as it is: %s", (_, unit, count) => {
  const text = unit.repeat(count);
  drawn(text);
  expect(root.querySelector(".ll-markdown")).toBeNull();
  expect(root.querySelector(".ll-plain")?.textContent).toBe(text);
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
