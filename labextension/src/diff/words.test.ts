import { expect, test } from "vitest";
import { asJson, difference, shortened } from "./words";

const said = (a: string, b: string, json?: boolean) =>
  difference(a, b, json)
    .parts.filter((part) => part.op !== "equal")
    .map((part) => `${part.op[0]}:${part.text.trim()}`);

test("words that changed are marked, and the texts can be read back from the parts", () => {
  const a = "The order is late.\nSorry!";
  const b = "The order is not late.\nSorry, Sam!";
  const { kind, parts } = difference(a, b);
  expect(kind).toBe("words");
  expect(said(a, b)).toEqual(["i:not", "i:, Sam"]);
  const side = (dropped: string) => parts.filter((part) => part.op !== dropped).map((part) => part.text).join("");
  expect([side("insert"), side("delete")]).toEqual([a, b]);
});

test("JSON is compared by keys and values, not by white space or order, in a fence or without", () => {
  expect(difference('{"a":1,"b":[1,2]}', '```json\n{ "b": [1, 2],\n "a": 1.0 }\n```')).toMatchObject({ kind: "json" });
  expect(said('{"a":1,"b":[1,2]}', '```json\n{ "b": [1, 2],\n "a": 1.0 }\n```')).toEqual([]);
  expect(said('{"a": true}', '{"a": 1}')).toEqual(['d:"a": true', 'i:"a": 1']);
  expect(said('{"a": {"b": null}}', '{"a": {"b": null, "c": "x"}}')).toContain('i:"c": "x"');
  expect(difference('{"a":1}', '{ "a": 1 }', false).kind).toBe("words");
});

test("what is no JSON, or cannot be held exactly, is compared as text", () => {
  for (const text of ["refund", "3", '"x"', "{broken", '{"id": 12345678901234567890}', '{"x": 1e999}']) expect(asJson(text)).toBeUndefined();
  expect(said('{"id": 12345678901234567890}', '{"id": 12345678901234567891}')).toHaveLength(2);
});

test("texts that are long and quite different do not hold up the page", () => {
  const text = (seed: number) => Array.from({ length: 30_000 }, (_, at) => `w${(at * seed) % 9973}${at % 17 ? " " : "\n"}`).join("");
  const began = performance.now();
  const { parts } = difference(text(7), text(11));
  expect(performance.now() - began).toBeLessThan(5000);
  expect(parts.filter((part) => part.op !== "insert").map((part) => part.text).join("")).toBe(text(7));
});

test("long stretches that are the same are cut, and their length is said", () => {
  const parts = difference(`${"same ".repeat(200)}old end`, `${"same ".repeat(200)}new end`).parts;
  const cut = shortened(parts);
  expect(cut[0]!.text).toContain("characters that are the same");
  expect(cut[0]!.text.length).toBeLessThan(220);
});
