// The page of `percept serve`: what its parts are, and how a conversation goes through them.

import { answer } from "./answer.js";
import { models } from "./api.js";
import { Composer } from "./composer.js";
import { ask, byId, copy, download, make, size, toast } from "./dom.js";
import { asCurl, asPython } from "./request.js";
import { Settings } from "./settings.js";
import { blank, Full, LIMIT, Store } from "./store.js";
import { themes } from "./theme.js";
import { Speaker, textOf, View } from "./view.js";

themes();
const store = await Store.open();
const speaker = new Speaker();
/** Answers that are being written, by conversation: the conversation, the message, and what stops it. */
const running = new Map();
let talk;
let known = [];

const view = new View({ store, edit: (message) => composer.edit(message), again: () => again(), openKey: () => settings.open("key") });
const composer = new Composer({ store, send, stop, edited: () => show() });
const settings = new Settings(
  () => talk.messages.length > 0 && save(talk),
  () => findModels(),
);

/** Tell something at the top of the conversation, with a button that does something about it. */
function notice(text, label, does) {
  const place = byId("notice");
  place.replaceChildren(make("p", {}, text));
  if (label) place.append(make("button", { type: "button", onclick: does }, label));
  place.hidden = !text;
}

async function save(which) {
  try {
    await store.save(which);
    if (byId("notice").dataset.about === "room") notice("");
  } catch (error) {
    const said = error instanceof Full ? error.message : `This conversation could not be kept: ${error.message}`;
    byId("notice").dataset.about = "room";
    notice(said, "Export all", () => exportTalks());
  }
  showList();
}

/** The first words of a conversation, as its title. */
function titled(message) {
  const words = textOf(message).trim().split("\n")[0];
  const title = words || message.parts.map((part) => part.name).join(", ");
  return title.length > 60 ? `${title.slice(0, 59)}…` : title;
}

// What is shown

function showList() {
  const heads = store.heads();
  const open = (id) => async () => {
    closeSidebar();
    await go(id);
    composer.focus();
  };
  byId("conversations").replaceChildren(
    ...heads.map((head) => {
      const attributes = { type: "button", onclick: open(head.id), "aria-current": head.id === talk?.id ? "true" : undefined };
      const button = make("button", { ...attributes, className: running.has(head.id) ? "busy" : "" }, make("span", {}, head.title || "Untitled"));
      if (running.has(head.id)) button.append(make("span", { className: "hidden" }, ", answering"));
      return make("li", {}, button);
    }),
  );
  const used = `${size(store.used())} of ${size(LIMIT)} kept in this browser`;
  byId("used").textContent = store.lasting ? used : "This browser keeps nothing for this page: conversations end with this tab.";
  byId("export-all").disabled = heads.length === 0;
}

function show() {
  const title = talk.title || "New conversation";
  byId("title").textContent = title;
  document.title = talk.title ? `${talk.title} · Percept` : "Percept";
  view.show(talk, { running: running.get(talk.id)?.message, editing: composer.editing?.id });
  composer.running(running.has(talk.id));
  for (const id of ["rename", "export", "delete", "show-request"]) byId(id).disabled = talk.messages.length === 0;
  settings.show(talk);
  showModels();
  showList();
}

function showModels() {
  const select = byId("model");
  if (!talk.model || (known.length > 0 && talk.messages.length === 0 && !known.some((m) => m.id === talk.model))) {
    talk.model = known[0]?.id ?? talk.model;
  }
  const ids = known.map((model) => model.id);
  // What a conversation was held with may not be served any more.
  const all = talk.model && !ids.includes(talk.model) ? [talk.model, ...ids] : ids;
  const label = (id) => {
    const model = known.find((m) => m.id === id);
    if (!model) return `${id} (not served)`;
    return model.parent ? `${id} (adapter of ${model.parent})` : model.loading ? `${id} (loading)` : id;
  };
  select.replaceChildren(...all.map((id) => make("option", { value: id }, label(id))));
  select.value = talk.model;
  select.disabled = all.length === 0;
}

async function findModels() {
  try {
    // A server may also hold models that embed or transcribe; those do not talk.
    known = (await models()).filter((model) => (model.task ?? "generate") === "generate");
    if (byId("notice").dataset.about === "models") notice("");
    if (known.length === 0) told("The server has no model that generates text.");
  } catch (error) {
    told(error.message, error.wants === "key");
  }
  showModels();

  function told(text, wantsKey) {
    byId("notice").dataset.about = "models";
    if (wantsKey) notice(text, "Enter the key", () => settings.open("key"));
    else notice(text, "Try again", () => findModels());
  }
}

/** Go to a conversation. One that is being answered is the one in memory, not the one written down. */
async function go(id) {
  const found = running.get(id)?.talk ?? (id ? await store.load(id) : undefined);
  talk = found ?? blank(talk);
  remember(found ? id : "");
  composer.clear();
  show();
  view.toEnd();
}

/** The conversation that a reload comes back to. */
function remember(id) {
  const to = id ? `#${id}` : location.pathname + location.search;
  if (location.hash.slice(1) !== id) history.replaceState(null, "", to);
}

// What is done

/** Send a message, in place of `editing` and what follows it where that is given. Whether it was sent. */
function send(parts, editing) {
  if (!talk.model) {
    toast("There is no model to ask");
    findModels();
    return false;
  }
  const reads = known.find((model) => model.id === talk.model)?.input_modalities;
  const unread = parts.filter((part) => Array.isArray(reads) && !reads.includes(part.kind));
  if (unread.length > 0) {
    const kinds = [...new Set(unread.map((part) => part.kind))].join(" and no ");
    toast(`${talk.model} takes no ${kinds}: remove ${unread.map((part) => part.name).join(", ")}, or choose another model`);
    return false;
  }
  const at = editing ? talk.messages.findIndex((message) => message.id === editing.id) : -1;
  if (at >= 0) talk.messages.length = at;
  const message = { id: blank().id, role: "user", parts };
  talk.messages.push(message);
  talk.title ||= titled(message);
  run();
  return true;
}

/** Answer the last message of the user again. */
function again() {
  if (running.has(talk.id)) return;
  if (talk.messages.at(-1)?.role === "assistant") talk.messages.pop();
  composer.clear();
  run();
}

async function run() {
  const of = talk;
  const message = { id: blank().id, role: "assistant", model: of.model, parts: [{ kind: "text", text: "" }] };
  const control = new AbortController();
  of.messages.push(message);
  of.updated = Date.now();
  running.set(of.id, { talk: of, message, control });
  remember(of.id);
  // The composer clears itself after this; the view comes with it.
  queueMicrotask(() => {
    show();
    view.toEnd();
  });
  speaker.begin();
  save(of);
  let drawn = false;
  let kept = performance.now();
  const draw = () => {
    drawn = false;
    if (talk === of && running.has(of.id)) {
      view.update(message, { last: true, running: true });
      speaker.hear(textOf(message));
    }
  };
  await answer(of, message, store, control.signal, () => {
    if (!drawn) requestAnimationFrame(draw);
    drawn = true;
    // A reload in the middle finds most of it.
    if (performance.now() - kept > 2000) {
      kept = performance.now();
      save(of);
    }
  });
  running.delete(of.id);
  of.updated = Date.now();
  if (talk === of) {
    view.update(message, { last: true, running: false });
    speaker.end(textOf(message), message.trouble ? "" : message.stopped ? "Stopped" : "The answer is whole");
    composer.running(false);
    for (const button of document.querySelectorAll(".turn.user .acts button")) button.disabled = false;
  }
  await save(of);
}

function stop() {
  running.get(talk.id)?.control.abort();
}

async function exportTalks(one) {
  const talks = one ? [one] : (await Promise.all(store.heads().map((head) => store.load(head.id)))).filter(Boolean);
  const name = one ? one.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) : "conversations";
  download(`${name || "conversation"}.json`, await store.export(talks), "application/json");
}

async function importFile(file) {
  try {
    const talks = await store.import(await file.text());
    toast(`${talks.length} ${talks.length === 1 ? "conversation" : "conversations"} imported`);
    if (talks.length > 0) await go(talks[0].id);
  } catch (error) {
    const said = error instanceof Full ? error.message : `${file.name} was not imported: ${error.message}.`;
    delete byId("notice").dataset.about;
    notice(said, "Close", () => notice(""));
  }
  showList();
}

async function remove() {
  const text = "Its messages and media are removed from this browser. There is no way back.";
  if (!(await ask({ title: `Delete “${talk.title}”?`, text, yes: "Delete", danger: true }))) return;
  const { id } = talk;
  running.get(id)?.control.abort();
  // What is still being written down comes before.
  while (running.has(id)) await new Promise((resolve) => setTimeout(resolve, 20));
  await store.remove(id);
  await go(store.heads()[0]?.id);
  composer.focus();
}

async function rename() {
  const title = await ask({ title: "Rename the conversation", value: talk.title, yes: "Rename" });
  if (!title) return;
  talk.title = title;
  await save(talk);
  show();
}

async function showRequest(form) {
  byId("as-curl").setAttribute("aria-pressed", String(form === asCurl));
  byId("as-python").setAttribute("aria-pressed", String(form === asPython));
  // An answer is not part of the request that it came from.
  const last = talk.messages.at(-1);
  const asked = last?.role === "assistant" ? { ...talk, messages: talk.messages.slice(0, -1) } : talk;
  const text = await form(asked);
  byId("request-text").textContent = text;
  byId("copy-request").onclick = () => copy(text);
  const names = new Set(asked.messages.flatMap((m) => m.parts.filter((p) => p.kind !== "text").map((p) => p.name)));
  const files = names.size > 0 ? `It reads these files where it runs: ${[...names].join(", ")}. ` : "";
  byId("request-hint").textContent = `${files}An API key is taken from OPENAI_API_KEY; the text never holds it.`;
}

// Buttons, the list on narrow screens, the menu

/** Show or hide the list on a narrow page, where it lies over the rest. */
function sidebar(opens) {
  if (byId("sidebar").classList.contains("open") === opens) return;
  byId("sidebar").classList.toggle("open", opens);
  byId("open-sidebar").setAttribute("aria-expanded", String(opens));
  byId("page").inert = opens;
  byId(opens ? "close-sidebar" : "open-sidebar").focus();
}
const closeSidebar = () => sidebar(false);
matchMedia("(max-width: 52rem)").addEventListener("change", closeSidebar);

function menu(opens) {
  byId("more-list").hidden = !opens;
  byId("more").setAttribute("aria-expanded", String(opens));
  if (opens) byId("more-list").querySelector("button:not(:disabled)")?.focus();
}

const click = (id, does) => byId(id).addEventListener("click", does);
click("new", async () => {
  closeSidebar();
  await go();
  composer.focus();
});
click("open-sidebar", () => sidebar(true));
click("close-sidebar", closeSidebar);
// The address holds the conversation's id, which the link would replace.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  composer.focus();
});
addEventListener("hashchange", () => go(location.hash.slice(1)));
click("scrim", closeSidebar);
click("import", () => byId("import-file").click());
byId("import-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await importFile(file);
  event.target.value = "";
});
click("export-all", () => exportTalks());
click("more", () => menu(byId("more-list").hidden));
for (const [id, does] of Object.entries({
  rename,
  delete: remove,
  export: () => exportTalks(talk),
  "show-request": async () => {
    await showRequest(asCurl);
    byId("request").showModal();
  },
})) {
  click(id, () => {
    menu(false);
    byId("more").focus();
    does();
  });
}
click("as-curl", () => showRequest(asCurl));
click("as-python", () => showRequest(asPython));
byId("model").addEventListener("change", (event) => {
  talk.model = event.target.value;
  if (talk.messages.length > 0) save(talk);
});
addEventListener("click", (event) => {
  if (!event.target.closest(".menu")) menu(false);
});
byId("more-list").addEventListener("focusout", (event) => {
  if (event.relatedTarget && !event.relatedTarget.closest(".menu")) menu(false);
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (!byId("more-list").hidden) {
    menu(false);
    byId("more").focus();
  } else if (byId("sidebar").classList.contains("open")) {
    closeSidebar();
  } else {
    stop();
  }
});
store.watch(async (id) => {
  // Another tab wrote the conversation that is open here.
  if (id === talk.id && !running.has(id) && !composer.editing) {
    const found = await store.load(id);
    if (found) talk = found;
    show();
  } else {
    showList();
  }
});

talk = blank();
await go(location.hash.slice(1));
await findModels();
composer.focus();
