// Conversations, kept in the browser. Their media are stored apart, as blobs, so that writing an answer down again and again
// while it streams does not write photos again.

import { size, unique } from "./dom.js";

/** What all conversations may take together. */
export const LIMIT = 256_000_000;
const FORMAT = "percept-conversations";
const KINDS = ["image", "audio", "video"];

/** There is no room for a conversation. */
export class Full extends Error {}

/** A conversation without a message. */
export const blank = (like = {}) => ({
  id: unique(),
  title: "",
  created: Date.now(),
  updated: Date.now(),
  model: like.model ?? "",
  settings: { ...like.settings },
  messages: [],
});

/** The media that a conversation shows. */
export const mediaOf = (talk) => talk.messages.flatMap((m) => m.parts.filter((p) => p.kind !== "text"));

/** What a database does, in memory: for browsers that let the page keep nothing. */
class Memory {
  #stores = { heads: new Map(), talks: new Map(), media: new Map() };
  async all(store) {
    return [...this.#stores[store].values()];
  }
  async get(store, key) {
    return this.#stores[store].get(key);
  }
  async write(changes) {
    for (const { store, put, remove } of changes) {
      if (put) this.#stores[store].set(put.id, put);
      else this.#stores[store].delete(remove);
    }
  }
}

class Database {
  #db;
  constructor(db) {
    this.#db = db;
  }
  static open() {
    return new Promise((resolve, reject) => {
      const opening = indexedDB.open("percept", 1);
      opening.onupgradeneeded = () => {
        for (const name of ["heads", "talks", "media"]) opening.result.createObjectStore(name, { keyPath: "id" });
      };
      opening.onsuccess = () => resolve(new Database(opening.result));
      opening.onerror = () => reject(opening.error);
      opening.onblocked = () => reject(new Error("another tab holds an older version"));
    });
  }
  #ask(store, what) {
    return new Promise((resolve, reject) => {
      const request = what(this.#db.transaction(store).objectStore(store));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  }
  all(store) {
    return this.#ask(store, (s) => s.getAll());
  }
  get(store, key) {
    return this.#ask(store, (s) => s.get(key));
  }
  /** All changes or none. */
  write(changes) {
    return new Promise((resolve, reject) => {
      const transaction = this.#db.transaction(["heads", "talks", "media"], "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser ended the transaction"));
      for (const { store, put, remove } of changes) {
        if (put) transaction.objectStore(store).put(put);
        else transaction.objectStore(store).delete(remove);
      }
    });
  }
}

/** The conversations of this browser. */
export class Store {
  #base;
  /** Blobs of this tab by id: those that no conversation holds yet, and those that were asked for. */
  #blobs = new Map();
  #heads = new Map();
  #writing = Promise.resolve();
  #channel = "BroadcastChannel" in window ? new BroadcastChannel("percept") : undefined;
  /** Whether conversations outlive this tab. */
  lasting = true;

  static async open() {
    const store = new Store();
    try {
      store.#base = await Database.open();
    } catch {
      store.#base = new Memory();
      store.lasting = false;
    }
    await store.refresh();
    return store;
  }

  /** Call `changed` with the id of a conversation that another tab wrote or removed. */
  watch(changed) {
    if (!this.#channel) return;
    this.#channel.onmessage = async ({ data }) => {
      await this.refresh();
      changed(data);
    };
  }

  async refresh() {
    this.#heads = new Map((await this.#base.all("heads")).map((head) => [head.id, head]));
  }

  /** Id, title, time and size of all conversations, the newest first. */
  heads() {
    return [...this.#heads.values()].sort((a, b) => b.updated - a.updated);
  }

  /** Bytes that all conversations take. */
  used() {
    return this.heads().reduce((sum, head) => sum + head.bytes, 0);
  }

  load(id) {
    return this.#base.get("talks", id);
  }

  /** Hold a medium for a conversation that will be saved: the id of it. */
  hold(blob, id = unique()) {
    this.#blobs.set(id, blob);
    return id;
  }

  /** A medium, or undefined when it is not there any more. */
  async blob(id) {
    if (!this.#blobs.has(id)) {
      const found = await this.#base.get("media", id);
      if (!found) return undefined;
      this.#blobs.set(id, found.blob);
    }
    return this.#blobs.get(id);
  }

  /** Write a conversation down, with the media that it shows; those that it shows no more are removed. */
  save(talk) {
    // One after another, as they were asked for; what is written is how the conversation is now.
    const copy = structuredClone(talk);
    const next = this.#writing.then(() => this.#save(copy));
    this.#writing = next.catch(() => {});
    return next;
  }

  async #save(talk) {
    const old = this.#heads.get(talk.id);
    const shown = new Map(mediaOf(talk).map((part) => [part.media, part.bytes]));
    const text = JSON.stringify(talk).length;
    const bytes = [...shown.values()].reduce((sum, n) => sum + n, text);
    const others = this.used() - (old?.bytes ?? 0);
    // What becomes smaller is always written.
    if (others + bytes > LIMIT && bytes > (old?.bytes ?? 0)) {
      throw new Full(
        `This conversation is not kept: it takes ${size(bytes)}, and the others take ${size(others)} of ${size(LIMIT)}. ` +
          "Delete some, or export them first; until then it is lost when this tab is closed.",
      );
    }
    const head = { id: talk.id, title: talk.title, updated: talk.updated, bytes, media: [...shown.keys()] };
    const changes = [{ store: "heads", put: head }, { store: "talks", put: talk }];
    for (const id of shown.keys()) {
      const blob = this.#blobs.get(id);
      if (blob && !old?.media.includes(id)) changes.push({ store: "media", put: { id, blob } });
    }
    for (const id of old?.media ?? []) {
      if (!shown.has(id)) changes.push({ store: "media", remove: id });
    }
    await this.#write(changes, talk.id);
    this.#heads.set(talk.id, head);
  }

  async #write(changes, id) {
    try {
      await this.#base.write(changes);
    } catch (error) {
      if (error?.name !== "QuotaExceededError") throw error;
      throw new Full(
        "This conversation is not kept: the browser gives this page no more room. Delete some, or export them first; " +
          "until then it is lost when this tab is closed.",
      );
    }
    this.#channel?.postMessage(id);
  }

  /** Remove a conversation and its media. */
  remove(id) {
    const next = this.#writing.then(async () => {
      const media = this.#heads.get(id)?.media ?? [];
      const all = [{ store: "heads", remove: id }, { store: "talks", remove: id }];
      await this.#write([...all, ...media.map((m) => ({ store: "media", remove: m }))], id);
      media.forEach((m) => this.#blobs.delete(m));
      this.#heads.delete(id);
    });
    this.#writing = next.catch(() => {});
    return next;
  }

  /** Conversations as JSON, their media within. */
  async export(talks) {
    const media = {};
    for (const part of talks.flatMap(mediaOf)) {
      const blob = await this.blob(part.media);
      if (blob) media[part.media] = await dataUrl(blob);
    }
    return JSON.stringify({ format: FORMAT, version: 1, conversations: talks, media }, null, 1);
  }

  /** Take in what `export` gave, beside what is here. An error says what is wrong with the file, and where. */
  async import(text) {
    const talks = read(text, (url) => {
      const blob = blobOf(url);
      return { media: this.hold(blob), bytes: blob.size };
    });
    for (const talk of talks) await this.save(talk);
    return talks;
  }
}

/** A blob as a data URL. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The blob of a data URL in base64. */
function blobOf(url) {
  const match = /^data:((?:image|audio|video)\/[\w.+-]+)(?:;[\w-]+=[\w."-]+)*;base64,([A-Za-z0-9+/]*={0,2})$/.exec(url);
  if (!match) throw new Error("a medium is no data URL of an image, audio or video in base64");
  return new Blob([Uint8Array.from(atob(match[2]), (c) => c.charCodeAt(0))], { type: match[1] });
}

/** The conversations of an exported text, with new ids, so that nothing here is overwritten. Unknown fields are left out. */
function read(text, hold) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new Error(`it is no JSON (${error.message})`);
  }
  if (file?.format !== FORMAT || file.version !== 1 || !Array.isArray(file.conversations)) {
    throw new Error('it is no export of this page; its "format" should be "percept-conversations" and its "version" 1');
  }
  const need = (good, where, what) => {
    if (!good) throw new Error(`${where}: ${what}`);
  };
  const held = new Map();
  const medium = (id, where) => {
    const url = file.media?.[id];
    need(typeof url === "string", where, "its medium is not in the file");
    if (!held.has(id)) held.set(id, hold(url));
    return held.get(id);
  };
  const part = (p, where) => {
    if (p?.kind === "text") {
      need(typeof p.text === "string", where, "its text is missing");
      return { kind: "text", text: p.text };
    }
    need(KINDS.includes(p?.kind), where, "it is neither text, image, audio nor video");
    return { kind: p.kind, name: String(p.name ?? p.kind), type: String(p.type ?? ""), ...medium(p.media, where) };
  };
  return file.conversations.map((talk, t) => {
    const of = `conversation ${t + 1}`;
    need(Array.isArray(talk?.messages), of, "its messages are missing");
    const messages = talk.messages.map((m, i) => {
      const where = `${of}, message ${i + 1}`;
      need(["user", "assistant"].includes(m?.role) && Array.isArray(m.parts), where, "a role or the parts are missing");
      const parts = m.parts.map((p, k) => part(p, `${where}, part ${k + 1}`));
      const text = (name) => (typeof m[name] === "string" ? { [name]: m[name] } : {});
      return { id: unique(), role: m.role, parts, ...text("reasoning"), ...text("model"), ...(m.stats && typeof m.stats === "object" ? { stats: m.stats } : {}) };
    });
    const settings = {};
    for (const [key, value] of Object.entries(talk.settings ?? {})) {
      if (typeof value === "number" || typeof value === "string") settings[key] = value;
    }
    const time = (value) => (Number.isFinite(value) ? value : Date.now());
    const title = String(talk.title ?? "").slice(0, 120);
    const [created, updated] = [time(talk.created), time(talk.updated)];
    return { ...blank({ model: String(talk.model ?? ""), settings }), title, created, updated, messages };
  });
}
