// The host of a view on a page of the Jupyter server: one POST a call.
import { type Answer, type Host, Refused, Unreachable, Waiting } from "./host";

const TIMEOUT = 30_000;
const LOGGED_OUT = "the server does not know you any more. Log in again in another tab, then try once more.";

/** `url` is relative to the page, so that it also holds behind a proxy: "../api/rating/tone?project=work". */
export function restHost(url: string): Host {
  const waiting = new Waiting();

  async function call<T>(method: string, params: object = {}, options: { timeout?: number } = {}): Promise<Answer<T>> {
    const done = waiting.begin();
    const limit = options.timeout ?? TIMEOUT;
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-XSRFToken": token() },
        body: JSON.stringify({ method, params }),
        credentials: "same-origin",
        redirect: "manual", // to the login page, which is no answer
        signal: AbortSignal.timeout(limit),
      });
      return await answered<T>(response);
    } catch (error) {
      if (error instanceof Refused || error instanceof Unreachable) throw error;
      const slow = error instanceof DOMException && error.name === "TimeoutError";
      throw new Unreachable(slow ? `no answer from the server in ${limit / 1000} s.` : "the server cannot be reached.");
    } finally {
      done();
    }
  }

  return { kind: "rest", call, listen: () => () => {}, waiting: waiting.signal };
}

interface Body {
  ok?: boolean;
  data?: any;
  buffers?: string[];
  error?: { type: string; message: string };
}

async function answered<T>(response: Response): Promise<Answer<T>> {
  const body = (await response.json().catch(() => null)) as Body | null;
  if (body?.ok === true) return { data: body.data as T, buffers: (body.buffers ?? []).map(decoded) };
  if (typeof body?.error === "object") throw new Refused(body.error.type, body.error.message);
  const elsewhere = response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400);
  if (elsewhere || response.status === 401 || response.status === 403) throw new Unreachable(LOGGED_OUT);
  throw new Unreachable(`the server answered with status ${response.status} and nothing that can be read.`);
}

/** The server's own token against requests from other sites; it is read anew each time, for a login changes it. */
function token(): string {
  return /(?:^|;\s*)_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

/** The bytes of a base64 text. */
export function decoded(text: string): DataView {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new DataView(bytes.buffer);
}
