// Markdown as a tree. It is read in time proportional to the text; HTML, images and links stay text.

export type Inline =
  | { kind: "text" | "code"; text: string }
  | { kind: "strong" | "em" | "del"; children: Inline[] }
  | { kind: "link"; address: string; children: Inline[] }
  | { kind: "break" };

export type Block =
  | { kind: "heading"; level: number; children: Inline[] }
  | { kind: "paragraph"; children: Inline[] }
  | { kind: "code"; language: string; text: string; isClosed: boolean }
  | { kind: "quote"; blocks: Block[] }
  | { kind: "list"; start: number | null; items: Block[][] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "rule" };

/** Quotes and lists deeper than this stay text. */
const DEEPEST = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const ITEM = /^( {0,12})(?:([-*+])|(\d{1,9})[.)])(?:[ \t]+(.*))?$/;
const QUOTE = /^ {0,3}> ?(.*)$/;

/** Read the blocks of a text. */
export function parseMarkdown(text: string): Block[] {
  return blocksOf(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function blocksOf(lines: readonly string[], depth: number): Block[] {
  const blocks: Block[] = [];
  let paragraph: string[] = [];
  const flush = () => {
    if (paragraph.length) blocks.push({ kind: "paragraph", children: inlineOf(paragraph.join("\n")) });
    paragraph = [];
  };
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] ?? "";
    if (!line.trim()) {
      flush();
      at++;
      continue;
    }
    const special = depth < DEEPEST ? specialBlock(lines, at, depth, paragraph.length > 0) : null;
    if (special) {
      flush();
      blocks.push(special.block);
      at = special.next;
    } else {
      paragraph.push(line);
      at++;
    }
  }
  flush();
  return blocks;
}

interface Read {
  block: Block;
  next: number;
}

function specialBlock(lines: readonly string[], at: number, depth: number, inParagraph: boolean): Read | null {
  const line = lines[at] ?? "";
  const fence = FENCE.exec(line);
  if (fence) return readFence(lines, at, fence[1] ?? "", fence[2] ?? "");
  const heading = HEADING.exec(line);
  if (heading) {
    const title = (heading[2] ?? "").replace(/[ \t]+#+[ \t]*$/, "");
    return { block: { kind: "heading", level: (heading[1] ?? "#").length, children: inlineOf(title) }, next: at + 1 };
  }
  if (isRule(line)) return { block: { kind: "rule" }, next: at + 1 };
  if (QUOTE.test(line)) return readQuote(lines, at, depth);
  const item = ITEM.exec(line);
  // A number opens a list inside a paragraph only if it is 1, as a line may begin with a number by chance.
  if (item && !(inParagraph && (item[3] !== undefined ? item[3] !== "1" : !item[4]))) {
    return readList(lines, at, depth, item);
  }
  return readTable(lines, at);
}

function isRule(line: string): boolean {
  const marks = line.replace(/[ \t]/g, "");
  const first = marks[0] ?? "";
  return marks.length >= 3 && "-*_".includes(first) && marks === first.repeat(marks.length);
}

function readFence(lines: readonly string[], at: number, fence: string, language: string): Read {
  const body: string[] = [];
  for (let next = at + 1; next < lines.length; next++) {
    const line = lines[next] ?? "";
    const mark = line.trim();
    if (mark.length >= fence.length && mark === (fence[0] ?? "").repeat(mark.length)) {
      return {
        block: { kind: "code", language: language.trim(), text: body.join("\n"), isClosed: true },
        next: next + 1,
      };
    }
    body.push(line);
  }
  return {
    block: { kind: "code", language: language.trim(), text: body.join("\n"), isClosed: false },
    next: lines.length,
  };
}

function readQuote(lines: readonly string[], at: number, depth: number): Read {
  const body: string[] = [];
  let next = at;
  for (; next < lines.length; next++) {
    const quoted = QUOTE.exec(lines[next] ?? "");
    if (!quoted) break;
    body.push(quoted[1] ?? "");
  }
  return { block: { kind: "quote", blocks: blocksOf(body, depth + 1) }, next };
}

function readList(lines: readonly string[], at: number, depth: number, first: RegExpExecArray): Read {
  const indent = (first[1] ?? "").length;
  const ordered = first[3] !== undefined;
  const items: string[][] = [];
  let item: string[] = [];
  let next = at;
  let blank = false;
  for (; next < lines.length; next++) {
    const line = lines[next] ?? "";
    if (!line.trim()) {
      blank = true;
      item.push("");
      continue;
    }
    const own = ITEM.exec(line);
    const isNext = own && (own[1] ?? "").length <= indent + 1 && (own[3] !== undefined) === ordered;
    const depthOf = line.length - line.trimStart().length;
    if (isNext && !isRule(line)) {
      item = [own[4] ?? ""];
      items.push(item);
    } else if (depthOf > indent) item.push(line.slice(Math.min(depthOf, indent + (ordered ? 3 : 2))));
    else if (blank || own || HEADING.test(line) || FENCE.test(line) || QUOTE.test(line)) break;
    else item.push(line);
    blank = false;
  }
  const start = ordered ? Number(first[3]) : null;
  return { block: { kind: "list", start, items: items.map((body) => blocksOf(body, depth + 1)) }, next };
}

function readTable(lines: readonly string[], at: number): Read | null {
  const [head = "", rule = ""] = [lines[at], lines[at + 1]];
  if (!head.includes("|") || !rule.includes("-") || !/^[\s|:-]+$/.test(rule)) return null;
  const columns = cellsOf(head);
  if (cellsOf(rule).length !== columns.length) return null;
  const rows: Inline[][][] = [];
  let next = at + 2;
  for (; next < lines.length && (lines[next] ?? "").includes("|"); next++) {
    const cells = cellsOf(lines[next] ?? "");
    rows.push(columns.map((_, i) => inlineOf(cells[i] ?? "")));
  }
  return { block: { kind: "table", head: columns.map((cell) => inlineOf(cell)), rows }, next };
}

const cellsOf = (line: string): string[] =>
  line
    .trim()
    .replace(/^\|/, "")
    .replace(/\|$/, "")
    .split("|")
    .map((cell) => cell.trim());

const SPANS: [string, "strong" | "em" | "del"][] = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];
const ADDRESS = /^https?:\/\/[^\s<>"'`)\]]+/;
const SPECIAL = /[\\`*_~[!h\n<]/g;

/** Read the spans of one block. */
export function inlineOf(text: string, depth = 0): Inline[] {
  const found: Inline[] = [];
  /** A mark that has no partner further on is not searched again. */
  const lonely = new Set<string>();
  let plain = "";
  const put = (inline: Inline) => {
    if (plain) found.push({ kind: "text", text: plain });
    plain = "";
    found.push(inline);
  };
  let at = 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, special);
    at = special;
    if (at >= text.length) break;
    const read = readSpan(text, at, depth, lonely);
    if (!read) plain += text[at++];
    else if (read.inline) {
      put(read.inline);
      at = read.next;
    } else {
      plain += text.slice(at + 1, read.next);
      at = read.next;
    }
  }
  if (plain) found.push({ kind: "text", text: plain });
  return found;
}

interface Span {
  /** Null for an escaped character, which is plain text without its backslash. */
  inline: Inline | null;
  next: number;
}

function readSpan(text: string, at: number, depth: number, lonely: Set<string>): Span | null {
  const character = text[at] ?? "";
  if (character === "\n") return { inline: { kind: "break" }, next: at + 1 };
  if (character === "\\") return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? { inline: null, next: at + 2 } : null;
  if (character === "`") return readCode(text, at, lonely);
  if (character === "[" || character === "!") return readLink(text, at, depth, lonely);
  if (character === "h" || character === "<") return readAddress(text, at);
  if (depth > 6) return null;
  for (const [mark, kind] of SPANS) {
    if (!text.startsWith(mark, at) || lonely.has(mark)) continue;
    const from = at + mark.length;
    if (!/\S/.test(text[from] ?? "") || (mark.startsWith("_") && isLetter(text[at - 1]))) continue;
    const to = closing(text, from, mark);
    if (to < 0) {
      lonely.add(mark);
      continue;
    }
    if (to === from) continue;
    return { inline: { kind, children: inlineOf(text.slice(from, to), depth + 1) }, next: to + mark.length };
  }
  return null;
}

const isLetter = (character: string | undefined): boolean => /[\p{L}\p{N}]/u.test(character ?? "");

/** Return where the mark closes: after a visible character, and not as a part of a longer mark. */
function closing(text: string, from: number, mark: string): number {
  const single = mark.length === 1;
  for (let to = text.indexOf(mark, from); to >= 0; to = text.indexOf(mark, to + 1)) {
    if (!/\S/.test(text[to - 1] ?? "") || text[to - 1] === "\\") continue;
    if (single && (text[to + 1] === mark || text[to - 1] === mark)) continue;
    // Of three marks the last two close: **a *b***.
    while (!single && text[to + mark.length] === mark[0]) to++;
    if (mark.startsWith("_") && isLetter(text[to + mark.length])) continue;
    return to;
  }
  return -1;
}

function readCode(text: string, at: number, lonely: Set<string>): Span | null {
  let end = at;
  while (text[end] === "`") end++;
  const ticks = text.slice(at, end);
  if (lonely.has(ticks)) return null;
  for (let to = text.indexOf(ticks, end); to >= 0; ) {
    let after = to;
    while (text[after] === "`") after++;
    if (after - to === ticks.length) {
      const code = text.slice(end, to).replace(/\n/g, " ");
      return { inline: { kind: "code", text: /^ .*\S.* $/.test(code) ? code.slice(1, -1) : code }, next: after };
    }
    to = text.indexOf(ticks, after);
  }
  lonely.add(ticks);
  return null;
}

/** The longest label and address of a link; longer ones stay text. */
const LONGEST = 2000;

function readLink(text: string, at: number, depth: number, lonely: Set<string>): Span | null {
  const isImage = text[at] === "!";
  if (isImage && text[at + 1] !== "[") return null;
  if (lonely.has("](")) return null;
  const from = at + (isImage ? 2 : 1);
  const middle = text.indexOf("](", from);
  if (middle < 0) {
    lonely.add("](");
    return null;
  }
  const end = text.indexOf(")", middle);
  if (end < 0 || middle - from > LONGEST || end - middle > LONGEST) return null;
  const label = text.slice(from, middle);
  const address = text.slice(middle + 2, end).trim();
  if (label.includes("[") || /\s/.test(address.replace(/\s+["'(].*$/, ""))) return null;
  const children: Inline[] = isImage
    ? [{ kind: "text", text: `image: ${label}` }]
    : inlineOf(label, Math.max(depth + 1, 5));
  return { inline: { kind: "link", address, children }, next: end + 1 };
}

function readAddress(text: string, at: number): Span | null {
  const isBracketed = text[at] === "<";
  const from = isBracketed ? at + 1 : at;
  if (!text.startsWith("http", from) || (!isBracketed && isLetter(text[at - 1]))) return null;
  const match = ADDRESS.exec(text.slice(from, from + LONGEST));
  if (!match) return null;
  const address = match[0].replace(/[.,;:!?*_]+$/, "");
  const to = from + address.length;
  if (isBracketed && text[to] !== ">") return null;
  return {
    inline: { kind: "link", address, children: [{ kind: "text", text: address }] },
    next: isBracketed ? to + 1 : to,
  };
}
