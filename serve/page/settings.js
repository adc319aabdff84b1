// The sheet of settings: the system prompt, how tokens are chosen, the API key.

import { key, setKey } from "./api.js";
import { byId } from "./dom.js";
import { SAMPLING, wrong } from "./request.js";

export class Settings {
  #dialog = byId("settings");
  #talk;

  /** `changed` is called when the settings of the conversation did, `newKey` when the key did. */
  constructor(changed, newKey) {
    byId("open-settings").addEventListener("click", () => this.open());
    byId("clear-sampling").addEventListener("click", () => {
      for (const name of Object.keys(SAMPLING)) byId(name).value = "";
      this.#take();
    });
    this.#dialog.addEventListener("change", () => this.#take());
    // A click beside the sheet closes it.
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog && event.clientX < this.#dialog.getBoundingClientRect().left) this.#dialog.close();
    });
    this.#dialog.addEventListener("close", () => {
      this.#take();
      changed();
      if (byId("key").value.trim() !== key()) {
        setKey(byId("key").value.trim());
        newKey();
      }
    });
  }

  /** Show the settings of a conversation. */
  show(talk) {
    this.#talk = talk;
    byId("system").value = talk.settings.system ?? "";
    for (const name of Object.keys(SAMPLING)) byId(name).value = talk.settings[name] ?? "";
    byId("key").value = key();
    byId("wrong").hidden = true;
  }

  open(field) {
    this.show(this.#talk);
    this.#dialog.showModal();
    if (field) byId(field).focus();
  }

  /** Take what the fields say; a value that no request may have is named and left out. */
  #take() {
    const settings = {};
    const system = byId("system").value;
    if (system.trim()) settings.system = system;
    const complaints = [];
    for (const name of Object.keys(SAMPLING)) {
      const field = byId(name);
      const blank = field.value === "" && !field.validity.badInput;
      const complaint = blank ? undefined : wrong(name, field.valueAsNumber);
      field.toggleAttribute("aria-invalid", Boolean(complaint));
      if (complaint) complaints.push(`${document.querySelector(`label[for="${name}"]`).textContent}: ${complaint}.`);
      else if (!blank) settings[name] = field.valueAsNumber;
    }
    byId("wrong").textContent = complaints.join(" ");
    byId("wrong").hidden = complaints.length === 0;
    this.#talk.settings = settings;
  }
}
