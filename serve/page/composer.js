// The field where a message is written, with the files that go along: chosen, dropped, pasted or recorded.

import { byId, clock, icon, iconButton, make, toast } from "./dom.js";
import { recognise } from "./media.js";
import { LONGEST, Recorder } from "./recorder.js";
import { preview, textOf } from "./view.js";

export class Composer {
  #prompt = byId("prompt");
  #attached = [];
  #recorder;
  #editing;

  /** `does` holds `send(parts, editing)`, `stop()`, `edited()` and `store`. */
  constructor(does) {
    this.does = does;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#prompt.addEventListener("keydown", (event) => this.#key(event));
    this.#prompt.addEventListener("input", () => this.#fit());
    this.#prompt.addEventListener("paste", (event) => this.#paste(event));
    byId("stop").addEventListener("click", () => this.does.stop());
    byId("stop-editing").addEventListener("click", () => this.leave());
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", (event) => {
      this.attach(event.target.files);
      event.target.value = "";
    });
    byId("record").addEventListener("click", () => (this.#recorder ? this.#endRecording(true) : this.#record()));
    byId("keep-recording").addEventListener("click", () => this.#endRecording(true));
    byId("discard-recording").addEventListener("click", () => this.#endRecording(false));
    this.#dropping();
  }

  get editing() {
    return this.#editing;
  }

  focus() {
    this.#prompt.focus();
  }

  /** Show that an answer is being written, which can be stopped, or not. */
  running(runs) {
    const stop = byId("stop");
    const send = byId("send");
    const focused = document.activeElement === stop || document.activeElement === send;
    stop.hidden = !runs;
    send.hidden = runs;
    if (focused) (runs ? stop : this.#prompt).focus();
  }

  /** Take a message up again, to be changed and sent. */
  edit(message) {
    this.#editing = message;
    this.#prompt.value = textOf(message);
    this.#attached = message.parts.filter((part) => part.kind !== "text").map((part) => ({ ...part }));
    byId("editing").hidden = false;
    this.#showAttached();
    this.#fit();
    this.does.edited();
    this.focus();
  }

  /** Let go of what was being changed. */
  leave() {
    this.clear();
    this.does.edited();
    this.focus();
  }

  clear() {
    this.#editing = undefined;
    this.#prompt.value = "";
    this.#attached = [];
    byId("editing").hidden = true;
    this.#showAttached();
    this.#fit();
  }

  /** Attach files; what is no image, audio or video is named and left out. */
  attach(files) {
    const others = [];
    for (const file of files) {
      const found = recognise(file);
      if (!found) {
        others.push(file.name || "a file");
      } else if (found.bytes === 0) {
        others.push(`${found.name} (empty)`);
      } else {
        const { blob, ...part } = found;
        this.#attached.push({ ...part, media: this.does.store.hold(blob) });
      }
    }
    if (others.length > 0) toast(`Only images, audio and video can be attached: ${others.join(", ")} was left out`);
    this.#showAttached();
    this.focus();
  }

  #showAttached() {
    const list = byId("attached");
    list.hidden = this.#attached.length === 0;
    list.replaceChildren(
      ...this.#attached.map((part) => {
        const shown = part.kind === "audio" ? icon("sound", "sound") : preview(part, this.does.store, true);
        const remove = iconButton("close", `Remove ${part.name}`, () => {
          this.#attached = this.#attached.filter((other) => other !== part);
          this.#showAttached();
          this.focus();
        });
        return make("li", {}, shown, make("span", { className: "name" }, part.name), remove);
      }),
    );
  }

  /** Make the field as high as its text, where the browser does not do so by itself. */
  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#prompt.style.height = "auto";
    this.#prompt.style.height = `${this.#prompt.scrollHeight}px`;
  }

  #key(event) {
    // While an input method is composing, Enter belongs to it; on a keyboard of the screen it begins a line.
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && !matchMedia("(pointer: coarse)").matches;
    if (sends) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Escape" && this.#editing) {
      event.stopPropagation();
      this.leave();
    }
  }

  async #send() {
    if (byId("send").hidden) return toast("Stop the answer first, or wait for its end");
    if (this.#recorder) await this.#endRecording(true);
    const text = this.#prompt.value.trim();
    if (!text && this.#attached.length === 0) return;
    const parts = [...this.#attached];
    if (text) parts.push({ kind: "text", text });
    const editing = this.#editing;
    if (!this.does.send(parts, editing)) return;
    this.clear();
  }

  #paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.attach(files);
  }

  #dropping() {
    const place = byId("drop");
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0;
    const enter = (by) => (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + by);
      place.hidden = depth === 0;
    };
    addEventListener("dragenter", enter(1));
    addEventListener("dragleave", enter(-1));
    addEventListener("dragover", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    });
    addEventListener("drop", (event) => {
      depth = 0;
      place.hidden = true;
      if (!carries(event)) return;
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) this.attach(event.dataTransfer.files);
    });
  }

  async #record() {
    const button = byId("record");
    button.disabled = true;
    try {
      this.#recorder = await Recorder.begin((level, seconds) => {
        byId("level").value = level;
        byId("recorded").textContent = clock(seconds);
        if (seconds >= LONGEST) this.#endRecording(true);
      });
      byId("recording").hidden = false;
      button.setAttribute("aria-label", "End the recording and attach it");
    } catch (error) {
      toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  async #endRecording(keep) {
    const recorder = this.#recorder;
    if (!recorder) return;
    this.#recorder = undefined;
    byId("recording").hidden = true;
    byId("recorded").textContent = "0:00";
    byId("record").setAttribute("aria-label", "Record from the microphone");
    const file = await recorder.end();
    if (!keep) return this.focus();
    if (file) this.attach([file]);
    else toast("Nothing was recorded");
  }
}
