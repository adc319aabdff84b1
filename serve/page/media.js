// Files that the user gives: which kind they are, and how a request carries them.

import { dataUrl } from "./store.js";

/** Types that browsers do not tell, by the end of a name. */
const BY_NAME = {
  flac: "audio/flac", mp3: "audio/mpeg", m4a: "audio/mp4", oga: "audio/ogg", ogg: "audio/ogg", opus: "audio/ogg", wav: "audio/wav",
  avif: "image/avif", bmp: "image/bmp", tif: "image/tiff", tiff: "image/tiff", qoi: "image/qoi", webp: "image/webp",
  avi: "video/x-msvideo", mkv: "video/x-matroska", mov: "video/quicktime", mp4: "video/mp4", webm: "video/webm",
};
/** What `input_audio` calls a format. */
const FORMATS = {
  "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/vnd.wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3",
  "audio/flac": "flac", "audio/x-flac": "flac", "audio/ogg": "ogg", "audio/mp4": "m4a", "audio/x-m4a": "m4a", "audio/aac": "aac",
  "audio/webm": "webm",
};

/** The file with its type, or undefined when it is no image, audio or video. */
export function recognise(file) {
  const type = file.type || BY_NAME[/\.([^.]+)$/.exec(file.name ?? "")?.[1]?.toLowerCase()] || "";
  const kind = type.split("/")[0];
  if (!["image", "audio", "video"].includes(kind)) return undefined;
  const blob = file.type === type ? file : new Blob([file], { type });
  return { kind, type, name: file.name || kind, bytes: file.size, blob };
}

/** A part of a message as a request has it; `url` is the medium as a data URL. */
function wire(part, url) {
  if (part.kind === "text") return { type: "text", text: part.text };
  if (part.kind === "audio") {
    const type = part.type.split(";")[0];
    const format = FORMATS[type] ?? type.split("/")[1];
    return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format } };
  }
  const key = `${part.kind}_url`;
  return { type: key, [key]: { url } };
}

/** The turns of a conversation as a request has them. `urlOf` gives a medium's data URL. */
export async function wireMessages(talk, urlOf) {
  const all = [];
  const system = talk.settings.system?.trim();
  if (system) all.push({ role: "system", content: system });
  for (const message of talk.messages) {
    const texts = message.parts.filter((part) => part.kind === "text");
    // An answer that never came is no turn.
    if (message.role === "assistant" && !texts.some((part) => part.text)) continue;
    if (texts.length === message.parts.length) {
      all.push({ role: message.role, content: texts.map((part) => part.text).join("\n") });
      continue;
    }
    const content = [];
    for (const part of message.parts) content.push(wire(part, part.kind === "text" ? "" : await urlOf(part)));
    all.push({ role: message.role, content });
  }
  return all;
}

/** A medium's data URL out of the store, or an error that names it. */
export const stored = (store) => async (part) => {
  const blob = await store.blob(part.media);
  if (!blob) throw new Error(`${part.name} is not in this browser any more; change the message and attach it again`);
  return dataUrl(blob);
};

/** How many media of each kind, in words. */
export function count(parts) {
  const names = { image: ["image", "images"], audio: ["audio clip", "audio clips"], video: ["video", "videos"] };
  return Object.entries(names)
    .map(([kind, [one, many]]) => [parts.filter((part) => part.kind === kind).length, one, many])
    .filter(([n]) => n > 0)
    .map(([n, one, many]) => `${n} ${n === 1 ? one : many}`)
    .join(", ");
}
