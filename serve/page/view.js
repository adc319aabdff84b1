// The messages of a conversation as elements.

import { byId, clock, copy, icon, iconButton, make, size } from "./dom.js";
import { Prose } from "./markdown.js";
import { count } from "./media.js";

/** The texts of a message as one. */
export const textOf = (message) =>
  message.parts
    .filter((part) => part.kind === "text")
    .map((part) => part.text)
    .join("\n");

/** An element that shows a medium; its file is taken from the store, and its address given back with the element. */
export function preview(part, store, small = false) {
  const label = part.name;
  const element =
    part.kind === "image"
      ? make("img", { alt: small ? "" : label })
      : make(part.kind, { controls: !small, preload: "metadata", "aria-label": label, muted: small });
  element.dataset.media = part.media;
  store.blob(part.media).then((blob) => {
    if (!blob) return element.replaceWith(make("p", { className: "hint" }, `${label} is not in this browser any more`));
    const url = URL.createObjectURL(blob);
    element.src = url;
    const name = part.kind === "image" ? "load" : "loadedmetadata";
    // An image is decoded by then; sound and video read on from their address.
    if (part.kind === "image") element.addEventListener(name, () => URL.revokeObjectURL(url), { once: true });
    element.addEventListener(
      "error",
      () => {
        URL.revokeObjectURL(url);
        element.replaceWith(make("p", { className: "hint" }, `${label}: this browser cannot show it; the model may read it all the same`));
      },
      { once: true },
    );
  });
  return element;
}

/** What is told below an answer: its length, its speed, and what the model was given. */
export function statsText({ stats, finish, stopped }) {
  const parts = [];
  const number = (value) => (Number.isFinite(value) ? value : undefined);
  const { tokens, exact, first, seconds, prompt, cached, given, media } = stats ?? {};
  if (number(tokens) > 0) parts.push(`${exact ? "" : "about "}${tokens} ${tokens === 1 ? "token" : "tokens"}`);
  if (number(tokens) > 1 && number(seconds) > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
  if (number(first) !== undefined) parts.push(`first after ${first < 10 ? first.toFixed(2) : first.toFixed(0)} s`);
  const shown = [];
  if (number(prompt) !== undefined) shown.push(`${prompt} tokens`);
  if (typeof given === "string" && given) shown.push(given);
  if (number(prompt) !== undefined || tokens > 0) {
    const more = Object.entries(media ?? {}).map(([kind, n]) => `${Number(n)} of ${kind}`);
    if (number(cached) > 0) more.unshift(`${cached} from the cache`);
    if (shown.length > 0) parts.push(`given ${shown.join(" and ")}${more.length > 0 ? ` (${more.join(", ")})` : ""}`);
  }
  if (finish === "length") parts.push("ended at its limit of tokens");
  else if (finish && finish !== "stop") parts.push(`ended by ${finish}`);
  if (stopped) parts.push("stopped");
  return parts.join(" · ");
}

/** Shows a conversation, and what changes of it. */
export class View {
  #list = byId("messages");
  #scroll = byId("scroll");
  #shown = new Map();
  #follows = true;

  /** `does` holds what the buttons do: edit, again, openKey; and `store`. */
  constructor(does) {
    this.does = does;
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    byId("to-end").addEventListener("click", () => this.toEnd());
  }

  #scrolled() {
    const left = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight;
    this.#follows = left < 60;
    byId("to-end").hidden = left < 240;
  }

  /** Go to the newest message, and stay there as it grows. */
  toEnd() {
    this.#follows = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /** Show all messages anew; `running` is the answer that is being written, `editing` the message being changed. */
  show(talk, { running, editing } = {}) {
    for (const element of this.#list.querySelectorAll("audio, video")) URL.revokeObjectURL(element.src);
    this.#list.replaceChildren();
    this.#shown.clear();
    byId("welcome").hidden = talk.messages.length > 0;
    const from = talk.messages.findIndex((message) => message.id === editing);
    talk.messages.forEach((message, i) => {
      const last = i === talk.messages.length - 1;
      const element = message.role === "user" ? this.#user(message, running) : this.#answer(message, { last, running });
      if (from >= 0 && i >= from) element.classList.add("later");
      this.#list.append(element);
    });
  }

  #user(message, running) {
    const media = message.parts.filter((part) => part.kind !== "text");
    const figures = media.map((part) => {
      const seconds = Number.isFinite(part.seconds) ? `, ${clock(part.seconds)}` : "";
      return make(
        "figure",
        {},
        preview(part, this.does.store),
        make("figcaption", {}, `${part.name}, ${size(part.bytes)}${seconds}`),
      );
    });
    const text = textOf(message);
    return make(
      "li",
      { className: "turn user", id: `m-${message.id}` },
      make("h2", { className: "hidden" }, "You"),
      figures.length > 0 ? make("div", { className: "media" }, ...figures) : undefined,
      text ? make("div", { className: "said" }, make("div", { className: "text" }, text)) : undefined,
      make(
        "div",
        { className: "acts" },
        text ? iconButton("copy", "Copy this message", () => copy(text)) : undefined,
        iconButton("pencil", "Change and send again", () => this.does.edit(message), { disabled: Boolean(running) }),
      ),
    );
  }

  #answer(message, { last, running }) {
    const prose = make("div", { className: "text prose" });
    const thinking = make("details", { className: "thinking", hidden: true }, make("summary", {}, "Reasoning"), make("div"));
    const wait = make("div", { className: "waiting", hidden: true, role: "img", "aria-label": "The model is reading" }, make("i"), make("i"), make("i"));
    const foot = make("div", { className: "acts" });
    const element = make(
      "li",
      { className: "turn answer", id: `m-${message.id}` },
      make("h2", { className: "who" }, icon("mark", "mark"), message.model || "Answer"),
      thinking,
      wait,
      prose,
      foot,
    );
    this.#shown.set(message.id, { element, prose: new Prose(prose), thinking, wait, foot });
    this.update(message, { last, running: running === message });
    return element;
  }

  /** Show an answer as it is now. */
  update(message, { last, running }) {
    const shown = this.#shown.get(message.id);
    if (!shown) return;
    const text = textOf(message);
    shown.prose.show(text);
    shown.thinking.hidden = !message.reasoning;
    if (message.reasoning) shown.thinking.lastElementChild.textContent = message.reasoning;
    shown.wait.hidden = !running || Boolean(text);
    shown.element.setAttribute("aria-busy", String(running));
    if (!running) this.#finish(message, shown, last, text);
    if (this.#follows) this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #finish(message, { element, foot }, last, text) {
    element.querySelector(".failed")?.remove();
    if (message.trouble) {
      const { text: said, wants, again } = message.trouble;
      const failed = make("div", { className: "failed", role: "alert" }, make("p", {}, said));
      if (wants === "key") failed.append(make("button", { type: "button", onclick: () => this.does.openKey() }, "Enter the key"));
      if (last && again) failed.append(make("button", { type: "button", onclick: () => this.does.again() }, "Try again"));
      foot.before(failed);
    }
    foot.replaceChildren();
    if (text) foot.append(iconButton("copy", "Copy this answer", () => copy(text)));
    if (last && !message.trouble?.again) foot.append(iconButton("again", "Answer again", () => this.does.again()));
    const stats = statsText(message);
    if (stats) foot.append(make("span", { className: "stats" }, stats));
  }

  /** Give a message the focus, for those who do not see where it is. */
  reveal(message) {
    byId(`m-${message.id}`)?.scrollIntoView({ block: "nearest" });
  }
}

/** Reads an answer out as it is written: what is a whole sentence or line goes to screen readers once. */
export class Speaker {
  #place = byId("spoken");
  #said = 0;

  begin() {
    this.#place.replaceChildren();
    this.#said = 0;
    this.#say("Answering");
  }

  hear(text) {
    const rest = text.slice(this.#said);
    const end = Math.max(...[". ", "! ", "? ", ".\n", "\n"].map((mark) => rest.lastIndexOf(mark)));
    if (end < 0) return;
    this.#say(rest.slice(0, end + 1));
    this.#said += end + 1;
  }

  end(text, how) {
    this.#say(text.slice(this.#said));
    this.#said = text.length;
    this.#say(how);
  }

  #say(text) {
    if (text.trim()) this.#place.append(make("p", {}, text));
  }
}

/** What was given beside text, in words. */
export const given = (talk) => count(talk.messages.flatMap((message) => message.parts));
