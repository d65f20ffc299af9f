// Notes and tags of the reader, kept in the browser under the page's fingerprint.

import type { Corpus } from "./rows";
import { hash32 } from "./sample";

export interface Note {
  text: string;
  tags: string[];
  /** Time of the last change, ISO 8601. */
  when: string;
}

export type Notes = Record<string, Note>;

export const FORMAT = "harken-notes";

/** What the browser offers to keep texts: localStorage. */
export type Storage = Pick<globalThis.Storage, "getItem" | "setItem">;

/** Characters of a text that the fingerprint reads, besides its length: pages of many long texts must open quickly. */
const HEAD = 200;

/** Return 16 hexadecimal digits that stand for the corpus: policies, ids, rewards, lengths and beginnings of texts. */
export function fingerprint(corpus: Corpus): string {
  let [a, b] = [1, 2];
  const mix = (text: string) => {
    a = hash32(text, a);
    b = hash32(text, b);
  };
  mix(corpus.policies.join("\u0000"));
  for (const example of corpus.examples) {
    mix(example.id);
    for (const response of example.responses) mix(`${response.reward}\u0000${response.text.length}\u0000${response.text.slice(0, HEAD)}`);
  }
  return [a, b].map((part) => part.toString(16).padStart(8, "0")).join("");
}

const place = (print: string): string => `${FORMAT}:${print}`;

/** Read the notes of a page. What cannot be read is left alone and nothing is returned. */
export function loadNotes(storage: Storage | null, print: string): Notes {
  try {
    return readNotes(JSON.parse(storage?.getItem(place(print)) ?? "{}"));
  } catch {
    return {};
  }
}

/** Keep the notes. Returns false where the browser refuses. */
export function saveNotes(storage: Storage | null, print: string, notes: Notes): boolean {
  try {
    storage?.setItem(place(print), JSON.stringify(notes));
    return storage !== null;
  } catch {
    return false;
  }
}

/** Return the notes with one changed; one without text and tags is removed. */
export function withNote(notes: Notes, id: string, text: string, tags: string[], when: string): Notes {
  const others = Object.entries(notes).filter(([key]) => key !== id);
  const isEmpty = !text.trim() && !tags.length;
  return fromEntries(isEmpty ? others : [...others, [id, { text, tags, when }]]);
}

/** Split a line of tags at commas; each tag once, in order. */
export const splitTags = (line: string): string[] => [
  ...new Set(
    line
      .split(",")
      .map((tag) => tag.trim())
      .filter(Boolean),
  ),
];

/** Return every tag and how many examples have it. */
export function tagCounts(notes: Notes): [string, number][] {
  const counts = new Map<string, number>();
  for (const note of Object.values(notes)) for (const tag of note.tags) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

/** Write the notes of a page as JSON. */
export function exportNotes(print: string, title: string, notes: Notes): string {
  return `${JSON.stringify({ format: FORMAT, version: 1, fingerprint: print, title, notes }, null, 2)}\n`;
}

export interface Imported {
  notes: Notes;
  /** How many notes came in. */
  added: number;
  /** What the reader should know, in words; empty for nothing. */
  message: string;
}

/**
 * Merge notes from a file: of two for one example the later stays. Notes for examples that the page does not have are
 * left out. Throws an Error with a sentence for the reader if the file holds no notes.
 */
export function importNotes(text: string, print: string, ids: ReadonlySet<string>, mine: Notes): Imported {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON. Choose a file that “Export notes” wrote.");
  }
  const record = isRecord(file) ? file : {};
  if (record.format !== FORMAT || record.version !== 1) {
    throw new Error("The file holds no notes of a report. Choose a file that “Export notes” wrote.");
  }
  const theirs = readNotes(record.notes);
  const merged = new Map(Object.entries(mine));
  let added = 0;
  let foreign = 0;
  for (const [id, note] of Object.entries(theirs)) {
    if (!ids.has(id)) {
      foreign++;
      continue;
    }
    const own = merged.get(id);
    if (own && own.when >= note.when) continue;
    merged.set(id, note);
    added++;
  }
  const messages = [
    record.fingerprint === print ? "" : "These notes were made on another page.",
    foreign ? `${foreign} of them are about prompts that this page does not have and were left out.` : "",
  ];
  return { notes: fromEntries([...merged]), added, message: messages.filter(Boolean).join(" ") };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const fromEntries = (entries: [string, Note][]): Notes =>
  Object.assign(Object.create(null) as Notes, Object.fromEntries(entries));

/** Keep what has the form of a note. */
function readNotes(value: unknown): Notes {
  const entries: [string, Note][] = [];
  for (const [id, note] of Object.entries(isRecord(value) ? value : {})) {
    if (!isRecord(note)) continue;
    const tags = Array.isArray(note.tags) ? note.tags.filter((tag): tag is string => typeof tag === "string") : [];
    const text = typeof note.text === "string" ? note.text : "";
    const when = typeof note.when === "string" ? note.when : "";
    if (text || tags.length) entries.push([id, { text, tags, when }]);
  }
  return fromEntries(entries);
}
