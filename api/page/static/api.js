// Requests to the API that serves this page, with the tab's token. Paths are relative: the API may be below a path.

const TOKEN = "darkroom-token"; // in sessionStorage: it lives as long as the tab
const TRIES = 3;

const listeners = new Set();

/** A failed request. `status` is 0 if there was no response. */
export class ApiError extends Error {
  constructor(status, detail, title = "") {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

export const base = new URL(".", document.baseURI);

export const token = () => sessionStorage.getItem(TOKEN) ?? "";

export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
}

/** Call `listener` with the ApiError when a request needs another token. */
export const onUnauthorized = (listener) => listeners.add(listener);

/** The response as JSON, or null if it has no body. Throws ApiError. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const answer = await request(method, path, { body, headers, signal });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  const error = new ApiError(answer.status, problem.detail ?? answer.statusText, problem.title);
  if (answer.status === 401) for (const listener of listeners) listener(error);
  throw error;
}

export const get = (path, options) => send("GET", path, options);

/** Submit a prediction. If the response is lost, a retry doesn't draw it twice. Throws ApiError. */
export async function submit(body) {
  const headers = { "Idempotency-Key": `page-${randomHex(16)}` };
  for (let left = TRIES; ; ) {
    try {
      return await send("POST", "v1/predictions", { body, headers });
    } catch (error) {
      left -= 1;
      if (![0, 502, 503, 504].includes(error.status) || left === 0) throw error;
      await new Promise((done) => setTimeout(done, 800));
    }
  }
}

async function request(method, path, { body, headers, signal }) {
  const all = { ...headers };
  if (token()) all.Authorization = `Bearer ${token()}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  try {
    return await fetch(new URL(path, base), {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
}

function randomHex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The URL of a picture, at the address under which this page was opened; a bucket's own URL stays as it is. */
export function pictureUrl(url) {
  const { pathname, search } = new URL(url);
  const at = pathname.indexOf("/v1/files/");
  return at < 0 ? url : new URL(`${pathname.slice(at + 1)}${search}`, base).href;
}
