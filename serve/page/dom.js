// Elements, made and found. All text goes through textContent, so nothing that a model or a file says becomes markup.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element: its attributes, handlers as `onclick`, and its children, texts among them. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "className") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** A picture out of those that the page begins with. */
export function icon(name, className) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  if (className) svg.setAttribute("class", className);
  svg.append(use);
  return svg;
}

/** A button that shows a picture and is called by its label. */
export const iconButton = (name, label, onclick, attributes = {}) =>
  make("button", { type: "button", className: "icon", "aria-label": label, title: label, onclick, ...attributes }, icon(name));

/** A short message at the foot of the page, which screen readers read out too. */
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (place.textContent = ""), 4000);
}

/** Put a text on the clipboard; a page that is neither on localhost nor on https has only the older way. */
export async function copy(text) {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
    } else {
      const area = make("textarea", { className: "hidden", "aria-hidden": "true" });
      area.value = text;
      (document.querySelector("dialog[open]") ?? document.body).append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("refused");
    }
    toast("Copied");
  } catch {
    toast("The browser did not let the page copy; mark the text and copy it by hand");
  }
}

/** Give the user a file. */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A size as people read it. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Seconds as minutes and seconds. */
export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** A name that is used once. `crypto.randomUUID` is missing on pages over plain http, `getRandomValues` is not. */
export const unique = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Ask for a yes, or for a text: what was entered, true, or undefined when it was declined. */
export function ask({ title, text = "", value, yes, danger = false }) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-field").hidden = value === undefined;
  const input = byId("ask-value");
  input.value = value ?? "";
  input.disabled = value === undefined;
  const button = byId("ask-yes");
  button.textContent = yes;
  button.classList.toggle("danger", danger);
  dialog.returnValue = "no";
  // Enter in the field takes the first submit button, which declines.
  input.onkeydown = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    dialog.close("yes");
  };
  dialog.showModal();
  if (value !== undefined) input.select();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue !== "yes" ? undefined : value === undefined ? true : input.value.trim()),
      { once: true },
    );
  });
}
