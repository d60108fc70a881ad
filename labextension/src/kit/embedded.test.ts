import { afterEach, expect, test } from "vitest";
import { embedded, embeddedHost, recordedAs } from "./embedded";
import { Refused } from "./host";

afterEach(() => (document.body.innerHTML = ""));

test("a file answers with what was recorded in it", async () => {
  const script = document.createElement("script");
  script.type = "application/json";
  script.id = "llmops-lab-data";
  const answers = { open: { data: { total: 9 } }, 'page {"size":2,"start":0}': { data: "first", buffers: [0] }, page: { data: "any" } };
  script.textContent = JSON.stringify({ view: "grid", answers, buffers: ["AQID"] });
  document.body.append(script);
  const recorded = embedded();
  expect(recorded?.view).toBe("grid");
  const host = embeddedHost(recorded!);
  expect((await host.call("open")).data).toEqual({ total: 9 });
  const first = await host.call("page", { start: 0, size: 2, filter: undefined });
  expect([first.data, first.buffers.map((each) => each.byteLength)]).toEqual(["first", [3]]);
  expect((await host.call("page", { start: 2, size: 2 })).data).toBe("any");
  await expect(host.call("submit", { value: 1 })).rejects.toBeInstanceOf(Refused);
  expect(host.waiting.value).toBe(false);
});

test("a page without recorded answers says that it has none", () => {
  expect(embedded()).toBeNull();
});

test("a call's name does not depend on the order of its parameters", () => {
  expect(recordedAs("page", {})).toBe("page");
  const name = recordedAs("page", { b: [1, { z: null, a: "ü\n" }], a: true });
  expect(name).toBe('page {"a":true,"b":[1,{"a":"ü\\n","z":null}]}');
  expect(recordedAs("page", { a: true, b: [1, { a: "ü\n", z: null }] })).toBe(name);
});
