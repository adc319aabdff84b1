// Light, dark, or as the system is.

import { byId, toast } from "./dom.js";

const KEY = "percept.theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const WORDS = { system: "Appearance: as the system", light: "Appearance: light", dark: "Appearance: dark" };

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", WORDS[theme]);
  byId("theme").title = WORDS[theme];
}

/** Make the button switch, and begin with what was chosen last. */
export function themes() {
  let theme = "system";
  try {
    theme = NEXT[localStorage.getItem(KEY)] ? localStorage.getItem(KEY) : "system";
  } catch {
    // A browser that keeps nothing shows the system's appearance.
  }
  apply(theme);
  byId("theme").addEventListener("click", () => {
    theme = NEXT[theme];
    apply(theme);
    toast(WORDS[theme]);
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // It is not kept then.
    }
  });
}
