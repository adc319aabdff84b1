// One answer: the request, what comes of it, and how fast.

import { chat, Trouble } from "./api.js";
import { stored } from "./media.js";
import { body } from "./request.js";
import { given } from "./view.js";

/** Ask for the answer that `message`, the last of the conversation, is to become. `changed` is called as it grows. */
export async function answer(talk, message, store, signal, changed) {
  const asked = performance.now();
  let first;
  let latest;
  let pieces = 0;
  let told = {};
  const tell = () => {
    message.stats = {
      tokens: pieces,
      exact: false,
      first: first === undefined ? undefined : (first - asked) / 1000,
      seconds: first === undefined ? undefined : (latest - first) / 1000,
      given: given(talk),
      ...told,
    };
  };
  try {
    const request = await body({ ...talk, messages: talk.messages.slice(0, -1) }, stored(store));
    signal.throwIfAborted();
    await chat(request, signal, ({ content, reasoning, finish, usage }) => {
      if (content || reasoning) {
        latest = performance.now();
        first ??= latest;
        pieces += 1;
      }
      if (content) message.parts[0].text += content;
      if (reasoning) message.reasoning = (message.reasoning ?? "") + reasoning;
      if (finish) message.finish = finish;
      if (usage) told = counts(usage);
      tell();
      changed();
    });
  } catch (error) {
    if (error.name === "AbortError") {
      message.stopped = true;
    } else {
      const known = error instanceof Trouble ? error : new Trouble(error.message);
      message.trouble = { text: known.message, wants: known.wants, again: known.again };
    }
  }
  tell();
}

/** What the server counted. */
function counts(usage) {
  const details = usage.prompt_tokens_details ?? {};
  const media = Object.fromEntries(
    ["image", "audio", "video"].map((kind) => [kind, details[`${kind}_tokens`]]).filter(([, n]) => n > 0),
  );
  return {
    ...(usage.completion_tokens === undefined ? {} : { tokens: usage.completion_tokens, exact: true }),
    prompt: usage.prompt_tokens,
    cached: details.cached_tokens,
    media,
  };
}
