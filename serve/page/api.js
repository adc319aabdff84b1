// The server's side of a conversation: its models, and answers as they are written.

const KEY = "percept.key";

/** The API key, which only this tab keeps. */
export const key = () => sessionStorage.getItem(KEY) ?? "";
export const setKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

/** The address of an endpoint; the page may lie below a path of a proxy. */
export const address = (path) => new URL(path, document.baseURI).href;

/** An answer that did not come, with what to do about it. `wants` is "key" where an API key would help. */
export class Trouble extends Error {
  constructor(text, { wants, again = true } = {}) {
    super(text);
    this.wants = wants;
    this.again = again;
  }
}

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server cannot be reached. Is it still running? Then try again.");
  }
  if (!response.ok) throw await refused(response);
  return response;
}

/** What a refusal means for the user. The server's own words say the rest. */
async function refused(response) {
  let words = "";
  try {
    const text = await response.text();
    words = JSON.parse(text).error?.message ?? "";
  } catch {
    // A proxy answers without JSON; the status says enough then.
  }
  const said = words ? ` The server says: ${words}` : "";
  const wait = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  switch (response.status) {
    case 401:
    case 403:
      return new Trouble(`The server wants an API key, and ${key() ? "this one is not it" : "none was given"}.${said}`, { wants: "key" });
    case 404:
      return new Trouble(`The server does not have this.${said}`);
    case 413:
      return new Trouble(`This is more than the server takes at once. Attach less, or smaller files.${said}`, { again: false });
    case 429:
      return new Trouble(`The server has as much to do as it takes on. Try again ${wait > 0 ? `in ${wait} s` : "in a moment"}.${said}`);
    case 400:
    case 415:
    case 422:
      return new Trouble(words || `The server refuses this request (${response.status}).`);
    case 502:
    case 503:
    case 504:
      return new Trouble(`The server is starting, ending or behind a proxy that does not reach it (${response.status}). Try again in a moment.${said}`);
    default:
      return new Trouble(`The server answers with an error (${response.status}). Its log says more.${said}`);
  }
}

/** The models of the server, adapters among them. */
export async function models() {
  const list = (await (await send("v1/models")).json()).data;
  if (!Array.isArray(list)) throw new Trouble("The server's list of models is not one. Is this page served by percept serve?");
  return list.filter((model) => typeof model?.id === "string");
}

/**
 * Ask for an answer. `on` is called with each piece: `{ content }`, `{ reasoning }`, `{ finish }`, `{ usage }`.
 * It ends when the answer does; an answer that breaks off is a `Trouble`.
 */
export async function chat(body, signal, on) {
  const response = await send("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  let ended = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") {
        ended = true;
        break;
      }
      piece(data, on);
    }
  } catch (error) {
    if (error instanceof Trouble || error.name === "AbortError") throw error;
    throw new Trouble("The connection broke before the answer was whole. Try again.");
  }
  if (!ended) throw new Trouble("The connection ended before the answer was whole. Try again.");
}

function piece(data, on) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new Trouble("The server sent an event that is no JSON. Is something between it and this page?");
  }
  if (chunk.error) throw new Trouble(`The answer broke off. The server says: ${chunk.error.message ?? "nothing more"}`);
  const choice = chunk.choices?.[0];
  const reasoning = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
  if (reasoning) on({ reasoning });
  if (choice?.delta?.content) on({ content: choice.delta.content });
  if (choice?.delta?.refusal) on({ content: choice.delta.refusal });
  if (choice?.finish_reason) on({ finish: choice.finish_reason });
  if (chunk.usage) on({ usage: chunk.usage });
}

/** The data of server-sent events, as they come in. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      // A carriage return at the end may be half of a line's end.
      const lines = held.split(/\r\n|\n|\r(?!$)/);
      held = lines.pop();
      for (const line of lines) {
        if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(5).replace(/^ /, ""));
        }
      }
    }
  } finally {
    // Whoever stops reading stops the answer.
    await reader.cancel().catch(() => {});
  }
}
