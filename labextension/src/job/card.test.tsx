import { signal } from "@preact/signals";
import { afterEach, expect, test } from "vitest";
import type { Host } from "../kit/host";
import { Refused } from "../kit/host";
import { mount } from "../kit/widget";
import { duration, JobView } from "./card";
import type { JobState } from "./wire";

const QUEUED: JobState = {
  id: "20261122-101010-abcdef01",
  template: "finetune",
  state: "queued",
  over: false,
  waits: "waits for its turn: 2 running, at most 2 at once",
  done: 0,
  total: 0,
  cell: null,
  attempt: 1,
  attempts: 2,
  elapsed: null,
  silent: "",
  cancelling: false,
  error: "",
  exit_code: null,
  told: [],
  log: [],
  folder: "/jobs/x",
  notebook: "/jobs/x/notebook.ipynb",
  run_id: null,
  trouble: "",
};
const RUNNING: JobState = { ...QUEUED, state: "running", waits: "", done: 2, total: 8, cell: 3, elapsed: 65, log: ["step 1", "<b>step</b> 2"] };

const soon = (ms = 30) => new Promise((resolve) => setTimeout(resolve, ms));
let leave = () => {};
afterEach(() => leave());

/** A kernel that tells these states, one after the other, and takes a wish to cancel. */
function kernel(first: JobState, refuses = "") {
  let push = (_: JobState) => {};
  const calls: string[] = [];
  const ended = signal(false);
  const host = {
    kind: "comm",
    waiting: signal(false),
    ended,
    listen(on: (state: JobState) => void) {
      push = on;
      return () => {};
    },
    call: async (method: string) => {
      calls.push(method);
      if (method === "cancel" && refuses) throw new Refused("StoreError", refuses);
      return { data: method === "cancel" ? { ...first, cancelling: true } : first, buffers: [] };
    },
  } as unknown as Host;
  return { host, calls, ended, push: (state: JobState) => push(state) };
}

async function show(host: Host): Promise<HTMLElement> {
  const element = document.createElement("div");
  document.body.replaceChildren(element);
  leave = mount(element, JobView, host);
  await soon();
  return element;
}

test("a job that waits says for what, and then how far it is", async () => {
  const { host, push } = kernel(QUEUED);
  const element = await show(host);
  expect(element.textContent).toContain("waits for its turn: 2 running");
  expect(element.querySelector("progress")).toBeNull();
  push(RUNNING);
  await soon();
  expect(element.querySelector("[role=status]")?.textContent).toBe("running");
  expect(element.textContent).toContain("2 of 8 cells · 65 s");
  expect(element.querySelector("progress")?.value).toBe(2);
});

test("what the job prints stays text", async () => {
  const element = await show(kernel(RUNNING).host);
  expect(element.querySelector("pre")?.textContent).toBe("step 1\n<b>step</b> 2");
  expect(element.querySelector("pre b")).toBeNull();
});

test("the button asks once, and the card says that it did", async () => {
  const { host, calls } = kernel(RUNNING);
  const element = await show(host);
  const button = element.querySelector("button") as HTMLButtonElement;
  button.click();
  await soon();
  button.click();
  expect(calls).toEqual(["state", "cancel"]);
  expect(button.disabled).toBe(true);
  expect(button.textContent).toBe("Cancelling …");
});

test("a cancel that was refused is told, and can be asked again", async () => {
  const element = await show(kernel(RUNNING, "the ledger is away").host);
  (element.querySelector("button") as HTMLButtonElement).click();
  await soon();
  expect(element.querySelector("[role=alert]")?.textContent).toBe("the ledger is away");
  expect((element.querySelector("button") as HTMLButtonElement).disabled).toBe(false);
});

test("the end names error, exit code, notebook and run", async () => {
  const { host, push } = kernel(RUNNING);
  const element = await show(host);
  push({ ...RUNNING, state: "dead_kernel", over: true, error: "DeadKernelError: it died (cell 3)", exit_code: 138, run_id: "abc" });
  await soon();
  expect(element.querySelector("[role=status]")?.textContent).toBe("dead kernel");
  expect(element.querySelector(".ll-error")?.textContent).toBe("DeadKernelError: it died (cell 3)");
  expect([...element.querySelectorAll("dd")].map((each) => each.textContent)).toEqual(["138", "/jobs/x/notebook.ipynb", "abc"]);
  expect(element.querySelector("button")).toBeNull();
});

test("the end says the verdict, as text", async () => {
  const { host, push } = kernel(RUNNING);
  const element = await show(host);
  push({ ...RUNNING, state: "succeeded", over: true, exit_code: 0, told: [["verdict", "better: <b>b</b> beats a"]] });
  await soon();
  expect(element.querySelector(".lj-told")?.textContent).toBe("verdictbetter: <b>b</b> beats a");
  expect(element.querySelector(".lj-told b")).toBeNull();
});

test("without its kernel a card does not say that the job runs", async () => {
  const { host, ended } = kernel(RUNNING);
  const element = await show(host);
  ended.value = true;
  await soon();
  expect(element.querySelector("[role=status]")?.textContent).toBe("running when this was last live");
  expect(element.querySelector("button")).toBeNull();
});

test("times are short", () => {
  expect([5.4, 119, 125, 7300].map(duration)).toEqual(["5 s", "119 s", "2 min", "2 h 1 min"]);
});
