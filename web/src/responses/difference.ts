// What differs between two texts, by words or by lines, within a bounded time.

import { diffArrays } from "diff";
import type { Range } from "../page/segments";

export interface Difference {
  /** Stretches of the left text that the right one lacks. */
  left: Range[];
  /** Stretches of the right text that the left one lacks. */
  right: Range[];
  /** What was compared; `none` where both took too long and the texts are shown without marks. */
  unit: "word" | "line" | "none";
  /** Why it is not the unit that was asked for; empty where it is. */
  note: string;
}

/** Milliseconds and edits after which a comparison is given up. */
const LIMITS = { word: { timeout: 120, maxEditLength: 4000 }, line: { timeout: 120, maxEditLength: 4000 } };

/** Texts longer than this together are compared by lines at once. */
const LONG = 200_000;

// A word, one character of a script written without spaces, white space, or any other single character.
const WORD =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]|[^\S\n]+|\n|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}])[\p{L}\p{M}\p{N}_'’])+|[^]/gu;

/** Split a text into words; their concatenation is the text. */
export const words = (text: string): string[] => text.match(WORD) ?? [];

/** Split a text into lines, each with its line break. */
export const lines = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+/g) ?? [];

/** Compare two texts. Falls back from words to lines, and from lines to no marks. */
export function difference(left: string, right: string, unit: "word" | "line", limits = LIMITS): Difference {
  if (left === right) return { left: [], right: [], unit, note: "" };
  const tooLong = left.length + right.length > LONG;
  if (unit === "word" && !tooLong) {
    const found = compare(words(left), words(right), limits.word);
    if (found) return { ...found, unit: "word", note: "" };
  }
  const found = compare(lines(left), lines(right), limits.line);
  if (found) {
    const note = unit === "word" ? "These texts are too long or too different for words: compared by lines." : "";
    return { ...found, unit: "line", note };
  }
  return { left: [], right: [], unit: "none", note: "These texts are too long and too different to compare." };
}

function compare(
  left: string[],
  right: string[],
  limits: { timeout: number; maxEditLength: number },
): { left: Range[]; right: Range[] } | null {
  const parts = diffArrays(left, right, limits);
  if (!parts) return null;
  const ranges = { left: [] as Range[], right: [] as Range[] };
  let [at, to] = [0, 0];
  for (const part of parts) {
    const length = part.value.reduce((sum, piece) => sum + piece.length, 0);
    if (part.removed) ranges.left.push([at, at + length]);
    if (part.added) ranges.right.push([to, to + length]);
    if (!part.added) at += length;
    if (!part.removed) to += length;
  }
  return ranges;
}
