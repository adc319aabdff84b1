// The request of a conversation: what is sent, and the same as curl and as Python.

import { address, key } from "./api.js";
import { wireMessages } from "./media.js";

/** The settings of sampling, in the names of the request. What the OpenAI package does not know goes in `extra_body`. */
export const SAMPLING = {
  temperature: { least: 0, most: 2 },
  top_p: { least: 0, most: 1 },
  top_k: { least: 0, whole: true, extra: true },
  min_p: { least: 0, most: 1, extra: true },
  seed: { least: 0, most: Number.MAX_SAFE_INTEGER, whole: true },
  max_completion_tokens: { least: 1, whole: true },
};

/** What is wrong with a setting, or undefined. */
export function wrong(name, value) {
  const { least, most, whole } = SAMPLING[name];
  if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) return whole ? "it must be a whole number" : "it must be a number";
  if (value < least || (most !== undefined && value > most)) {
    return most === undefined ? `it must be ${least} or more` : `it must be from ${least} to ${most}`;
  }
  return undefined;
}

/** The body of the request that continues a conversation. */
export async function body(talk, urlOf) {
  const sampling = Object.fromEntries(
    Object.keys(SAMPLING)
      .filter((name) => talk.settings[name] !== undefined)
      .map((name) => [name, talk.settings[name]]),
  );
  return {
    model: talk.model,
    messages: await wireMessages(talk, urlOf),
    ...sampling,
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** What stands for a medium until the text of a command is made; nobody types these characters. */
const mark = (part) => `\u{e000}${part.name}\u{e001}${part.type.split(";")[0]}\u{e002}`;
const MARK = /\u{e000}([^\u{e001}]*)\u{e001}([^\u{e002}]*)\u{e002}/gu;
/** In `input_audio`, the mark is what follows the comma of a data URL. */
const marked = async (part) => (part.kind === "audio" ? `,${mark(part)}` : mark(part));

/** A word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A command of curl; files are read from the folder that it runs in. The key is left to the environment. */
export async function asCurl(talk) {
  const json = JSON.stringify(await body(talk, marked), null, 2);
  // The shell looks for these three in a here-document.
  const escaped = json.replace(/[\\$`]/g, "\\$&");
  const filled = escaped.replace(MARK, (_, name, type, at, all) => {
    const bare = /"data": "$/.test(all.slice(0, at));
    // The name went through JSON and the here-document; within $( ) a shell reads it as it is.
    const file = quoted(JSON.parse(`"${name.replace(/\\([\\$`])/g, "$1")}"`));
    return `${bare ? "" : `data:${type};base64,`}$(base64 < ${file} | tr -d '\\n')`;
  });
  const lines = [`curl --no-buffer ${quoted(address("v1/chat/completions"))}`, "  -H 'Content-Type: application/json'"];
  if (key()) lines.push('  -H "Authorization: Bearer $OPENAI_API_KEY"');
  return `${lines.join(" \\\n")} \\\n  --data-binary @- <<JSON\n${filled}\nJSON\n`;
}

/** A program in Python with the openai package; files are read from the folder that it runs in. */
export async function asPython(talk) {
  const { stream, stream_options, ...given } = await body(talk, marked);
  const own = Object.entries(given).filter(([name]) => !SAMPLING[name]?.extra);
  const extra = Object.fromEntries(Object.entries(given).filter(([name]) => SAMPLING[name]?.extra));
  const media = MARK.test(JSON.stringify(given));
  MARK.lastIndex = 0;
  const options = own.map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  if (Object.keys(extra).length > 0) options.push(`    extra_body=${literal(extra, 1)},`);
  return [
    ...(media ? ["import base64", ""] : []),
    ...(key() ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(address("v1"))}, api_key=${key() ? 'os.environ["OPENAI_API_KEY"]' : '"none"'})`,
    "",
    ...(media ? ["", "def read(name):", '    with open(name, "rb") as file:', "        return base64.b64encode(file.read()).decode()", "", ""] : []),
    "stream = client.chat.completions.create(",
    ...options,
    "    stream=True,",
    '    stream_options={"include_usage": True},',
    ")",
    "for chunk in stream:",
    "    if chunk.choices and chunk.choices[0].delta.content:",
    '        print(chunk.choices[0].delta.content, end="", flush=True)',
    "print()",
    "",
  ].join("\n");
}

/** A value as Python writes it. */
function literal(value, depth = 0) {
  const inner = "    ".repeat(depth + 1);
  const outer = "    ".repeat(depth);
  if (typeof value === "string") {
    const medium = new RegExp(`^${MARK.source}$`, "u").exec(value);
    if (!medium) return text(value);
    return `"data:${medium[2]};base64," + read(${text(medium[1])})`;
  }
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) return `[\n${value.map((v) => `${inner}${literal(v, depth + 1)},\n`).join("")}${outer}]`;
  if (typeof value === "object") {
    const audio = typeof value.data === "string" && new RegExp(`^${MARK.source}$`, "u").exec(value.data);
    const entries = Object.entries(value).map(([name, v]) => {
      const shown = audio && name === "data" ? `read(${text(audio[1])})` : literal(v, depth + 1);
      return `${inner}${text(name)}: ${shown},\n`;
    });
    return `{\n${entries.join("")}${outer}}`;
  }
  return String(value);
}

/** A string as Python writes it: that of JSON, but for characters beyond 16 bits, which JSON leaves as they are too. */
const text = (value) => JSON.stringify(value);
