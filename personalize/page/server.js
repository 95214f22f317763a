/** Questions to the server: JSON in and out, errors as sentences, the key where one is asked for. */

const KEY_NAME = "personalize-key";
const LONGEST_WAIT_S = 5;

/** The server's refusal, with the sentence it gave. */
class Refused extends Error {
  constructor(message, { status, param = null }) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

let askForKey = async () => {
  throw new Refused("This server asks for a key.", { status: 401 });
};

/** Says who asks the person for a key; `ask` gives a promise of it. */
export function onKeyNeeded(ask) {
  let asking = null;
  askForKey = () => {
    asking ??= ask().finally(() => {
      asking = null;
    });
    return asking;
  };
}

/**
 * What is at a path.
 *
 * @param {string[]} path Its parts, not yet encoded.
 * @param {Object} options `query` and `signal`.
 */
export async function get(path, { query = {}, signal } = {}) {
  const text = new URLSearchParams(query).toString();
  return answer(address(path) + (text ? `?${text}` : ""), { signal });
}

/** The answer to a message. */
export async function post(path, message, { signal } = {}) {
  return answer(address(path), {
    method: "POST",
    body: JSON.stringify(message),
    headers: { "Content-Type": "application/json" },
    signal,
  });
}

/** Whether an error only says that the question was given up. */
export function isGivenUp(error) {
  return error.name === "AbortError";
}

function address(path) {
  return ["v1", ...path.map(encodeURIComponent)].join("/");
}

async function answer(url, options, again = true) {
  const key = sessionStorage.getItem(KEY_NAME);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(url, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (isGivenUp(error)) throw error;
    throw new Refused("The server does not answer; is it still running?", { status: 0 });
  }
  if (response.ok) return response.json();
  if (response.status === 401) {
    sessionStorage.setItem(KEY_NAME, await askForKey());
    return answer(url, options, again);
  }
  if (response.status === 429 && again) {
    await pause(Math.min(Number(response.headers.get("Retry-After") ?? 1), LONGEST_WAIT_S));
    options.signal?.throwIfAborted();
    return answer(url, options, false);
  }
  throw await refusal(response);
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not one of this server's own answers: the status has to do.
  }
  const message = error.message ?? `The server answered with status ${response.status}.`;
  return new Refused(message, { status: response.status, param: error.param });
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
