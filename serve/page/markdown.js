// The part of Markdown that models write, as DOM nodes: paragraphs, headings, lists, quotes, code, tables, bold, italics and
// links. Everything else stays text. Images are not fetched: their address is shown as a link.

import { copy, make } from "./dom.js";

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const DIVIDER = /^\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?$/;
/** Lists and quotes within one another beyond this depth are shown as text. */
const DEPTH = 8;

/** The blocks of a text, each with the lines that it was made of, so that what did not change need not be made anew. */
export function blocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const all = [];
  let i = 0;
  const take = (kind, until, more = {}) => {
    const from = i;
    i = until;
    all.push({ kind, lines: lines.slice(from, until), ...more });
  };
  const run = (test) => {
    let end = i + 1;
    while (end < lines.length && test(lines[end])) end += 1;
    return end;
  };
  while (i < lines.length) {
    const line = lines[i];
    const fence = FENCE.exec(line);
    if (!line.trim()) {
      i += 1;
    } else if (fence) {
      const close = new RegExp(`^ {0,3}${fence[2][0]}{${fence[2].length},}\\s*$`);
      let end = i + 1;
      while (end < lines.length && !close.test(lines[end])) end += 1;
      take("code", Math.min(end + 1, lines.length), { language: fence[3], closed: end < lines.length });
    } else if (HEADING.test(line)) {
      take("heading", i + 1);
    } else if (RULE.test(line)) {
      take("rule", i + 1);
    } else if (QUOTE.test(line)) {
      take("quote", run((next) => QUOTE.test(next)));
    } else if (line.includes("|") && DIVIDER.test(lines[i + 1] ?? "")) {
      take("table", run((next) => next.includes("|")));
    } else if (ITEM.test(line)) {
      take("list", list(lines, i));
    } else {
      take("paragraph", run((next) => next.trim() && !starts(next)));
    }
  }
  return all;
}

const starts = (line) =>
  FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

/** Where a list ends: its items, what is indented below them, and empty lines between. */
function list(lines, from) {
  const [, indent, marker] = ITEM.exec(lines[from]);
  const numbered = /\d/.test(marker);
  let end = from + 1;
  for (let i = end; i < lines.length; i += 1) {
    const line = lines[i];
    const item = ITEM.exec(line);
    if (!line.trim()) continue;
    const deeper = /^\s*/.exec(line)[0].length > indent.length;
    const sibling = item && item[1].length <= indent.length && /\d/.test(item[2]) === numbered;
    // A line right below an item belongs to it, though it is not indented.
    const lazy = i === end && !starts(line);
    if (!deeper && !sibling && !lazy) break;
    end = i + 1;
  }
  return end;
}

/** The node of a block. */
function node(block, depth) {
  const { kind, lines } = block;
  if (kind === "code") return code(lines.slice(1, block.closed ? -1 : undefined).join("\n"), block.language);
  if (kind === "rule") return make("hr");
  if (kind === "heading") {
    const [, marks, text] = HEADING.exec(lines[0]);
    // One level of heading, so that the page's own outline stays whole.
    return make("h3", { className: `level-${marks.length}` }, ...inline(text));
  }
  if (kind === "table") return table(lines);
  if (depth >= DEPTH) return make("p", {}, lines.join("\n"));
  if (kind === "quote") {
    return make("blockquote", {}, ...nodes(lines.map((line) => QUOTE.exec(line)[1]).join("\n"), depth + 1));
  }
  if (kind === "list") return items(lines, depth);
  return make("p", {}, ...broken(lines));
}

/** Lines of a paragraph; two spaces or a backslash at an end break the line. */
function broken(lines) {
  const all = [];
  let text = "";
  lines.forEach((line, i) => {
    const breaks = / {2,}$|\\$/.test(line) && i + 1 < lines.length;
    text += line.trim().replace(/\\$/, breaks ? "" : "\\") + (i + 1 < lines.length && !breaks ? "\n" : "");
    if (breaks || i + 1 === lines.length) {
      all.push(...inline(text));
      if (breaks) all.push(make("br"));
      text = "";
    }
  });
  return all;
}

function items(lines, depth) {
  const [, indent, marker] = ITEM.exec(lines[0]);
  const numbered = /\d/.test(marker);
  const from = Number.parseInt(marker, 10);
  const of = make(numbered ? "ol" : "ul", { start: numbered && from !== 1 ? from : undefined });
  let within = [];
  const close = () => {
    if (within.length === 0) return;
    const parts = nodes(within.join("\n"), depth + 1);
    // An item of one paragraph needs no paragraph of its own.
    const first = parts[0]?.nodeName === "P" ? [...parts[0].childNodes, ...parts.slice(1)] : parts;
    of.append(make("li", {}, ...first));
    within = [];
  };
  let offset = 0;
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= indent.length) {
      close();
      offset = item[0].length - item[3].length;
      within.push(item[3]);
    } else {
      const spaces = /^\s*/.exec(line)[0].length;
      within.push(line.slice(Math.min(spaces, offset)));
    }
  }
  close();
  return of;
}

function table(lines) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replaceAll("\\|", "|"));
  const head = cells(lines[0]);
  const row = (line, name) => {
    const found = cells(line);
    return make("tr", {}, ...head.map((_, i) => make(name, {}, ...inline(found[i] ?? ""))));
  };
  return make(
    "div",
    { className: "table", tabindex: "0", role: "region", "aria-label": "Table" },
    make("table", {}, make("thead", {}, row(lines[0], "th")), make("tbody", {}, ...lines.slice(2).map((l) => row(l, "td")))),
  );
}

function code(text, language) {
  return make(
    "div",
    { className: "code" },
    make(
      "div",
      { className: "bar" },
      make("span", {}, language || "code"),
      make("button", { type: "button", onclick: () => copy(text) }, "Copy"),
    ),
    make("pre", { tabindex: "0", role: "region", "aria-label": `Code${language ? ` in ${language}` : ""}` }, make("code", {}, text)),
  );
}

const INLINE_AT =
  /(?<code>`+)(?<coded>[^`](?:.*?[^`])?)\k<code>(?!`)|(?<strong>\*\*|__)(?=\S)(?<bold>.+?)(?<=\S)\k<strong>|\*(?=[^\s*])(?<italic>[^*]*[^\s*])\*(?!\*)|(?<![\p{L}\p{N}_])_(?=[^\s_])(?<slanted>[^_]*[^\s_])_(?![\p{L}\p{N}_])|!?\[(?<label>[^\]]*)\]\((?<target>[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+"[^"]*")?\)|(?<bare>https?:\/\/[^\s<>"]*[^\s<>".,;:!?)\]'*_`])|\\(?<escaped>[!-/:-@[-`{-~])/suy;
/** A span that begins so far from the end is not looked for beyond, which bounds what a hostile text costs. */
const SPAN = 4000;

/** The nodes of a line: texts, code, bold, italics, links. */
export function inline(text, depth = 0) {
  if (depth > DEPTH) return [text];
  const all = [];
  let plain = "";
  const flush = () => {
    if (plain) all.push(plain);
    plain = "";
  };
  let at = 0;
  while (at < text.length) {
    // Nothing is marked up before the next of these characters.
    const next = text.slice(at).search(/[`*_![\\]|https?:/);
    if (next < 0) break;
    plain += text.slice(at, at + next);
    at += next;
    // Underscores look at what is before them.
    const before = at > 0 ? 1 : 0;
    const part = text.slice(at - before, at + SPAN);
    INLINE_AT.lastIndex = before;
    const match = INLINE_AT.exec(part);
    if (!match) {
      plain += text[at];
      at += 1;
      continue;
    }
    at += match[0].length;
    const g = match.groups;
    if (g.escaped !== undefined) {
      plain += g.escaped;
      continue;
    }
    flush();
    if (g.coded !== undefined) all.push(make("code", {}, g.coded.replaceAll("\n", " ")));
    else if (g.bold !== undefined) all.push(make("strong", {}, ...inline(g.bold, depth + 1)));
    else if (g.italic !== undefined) all.push(make("em", {}, ...inline(g.italic, depth + 1)));
    else if (g.slanted !== undefined) all.push(make("em", {}, ...inline(g.slanted, depth + 1)));
    else if (g.bare !== undefined) all.push(link(g.bare, [g.bare]) ?? g.bare);
    else all.push(link(g.target, [g.label || g.target]) ?? match[0]);
  }
  plain += text.slice(at);
  flush();
  return all;
}

/** A link to another page, where its address is one of the kinds that are safe to open. */
function link(target, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return undefined;
  return make("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, ...children);
}

const nodes = (text, depth) => blocks(text).map((block) => node(block, depth));

/** Shows a text that grows in an element: only blocks that changed are made anew. */
export class Prose {
  #element;
  #shown = [];

  constructor(element) {
    this.#element = element;
  }

  show(text) {
    const all = blocks(text);
    all.forEach((block, i) => {
      const source = `${block.kind} ${block.closed ?? ""}\n${block.lines.join("\n")}`;
      if (this.#shown[i] === source) return;
      const made = node(block, 0);
      const old = this.#element.children[i];
      if (old) old.replaceWith(made);
      else this.#element.append(made);
      this.#shown[i] = source;
    });
    this.#shown.length = all.length;
    while (this.#element.children.length > all.length) this.#element.lastElementChild.remove();
  }
}
