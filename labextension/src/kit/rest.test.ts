// @vitest-environment node
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Refused, Unreachable } from "./host";
import { restHost } from "./rest";

type Reply = (request: IncomingMessage, body: string, response: ServerResponse) => void;

let server: Server;
let reply: Reply;
let url: string;
beforeEach(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += piece)).on("end", () => reply(request, body, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/llmops-lab/api/rating/tone?project=work`;
  (globalThis as { document?: unknown }).document = { cookie: "username=x; _xsrf=2|secret; other=y" };
});
afterEach(async () => {
  delete (globalThis as { document?: unknown }).document;
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const json = (status: number, body: object): Reply => (_request, _body, response) =>
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));

test("a call is one POST with the server's own token", async () => {
  const seen: unknown[] = [];
  reply = (request, body, response) => {
    seen.push([request.method, request.url, request.headers["x-xsrftoken"], JSON.parse(body)]);
    json(200, { ok: true, data: { rows: 2 }, buffers: ["AQID"] })(request, body, response);
  };
  const answer = await restHost(url).call<{ rows: number }>("page", { start: 1 });
  expect(seen).toEqual([["POST", "/llmops-lab/api/rating/tone?project=work", "2|secret", { method: "page", params: { start: 1 } }]]);
  expect(answer.data.rows).toBe(2);
  expect([...new Uint8Array(answer.buffers[0]!.buffer)]).toEqual([1, 2, 3]);
});

test("a no of the server is its error's name and text, whatever the status", async () => {
  reply = json(403, { ok: false, error: { type: "BadInput", message: "the queue is closed." } });
  const error = await restHost(url).call("submit").catch((each) => each);
  expect(error).toBeInstanceOf(Refused);
  expect([error.type, error.message]).toEqual(["BadInput", "the queue is closed."]);
});

test.each([
  ["no server", null, "cannot be reached"],
  ["logged out", json(403, { message: "Forbidden", reason: null }), "Log in again"],
  ["sent to the login page", ((_q, _b, response) => response.writeHead(302, { Location: "/login" }).end()) as Reply, "Log in again"],
  ["a proxy's page", ((_q, _b, response) => response.writeHead(502).end("<html>Bad gateway</html>")) as Reply, "status 502"],
  ["half an answer", ((_q, _b, response) => response.writeHead(200, { "Content-Length": "999" }).write("{") && response.destroy()) as Reply, ""],
])("without an answer it is not said whether the call was carried out: %s", async (_, given, text) => {
  if (given) reply = given;
  else {
    server.closeAllConnections();
    server.close();
  }
  const error = await restHost(url).call("submit").catch((each) => each);
  expect(error).toBeInstanceOf(Unreachable);
  expect(error.message).toContain(text);
});

test("a server that is silent is given up", async () => {
  reply = () => {};
  const host = restHost(url);
  const error = await host.call("submit", {}, { timeout: 60 }).catch((each) => each);
  expect(error).toBeInstanceOf(Unreachable);
  expect(error.message).toContain("0.06 s");
  expect(host.waiting.value).toBe(false);
});
