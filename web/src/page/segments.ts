// A text cut into pieces: plain, marked, and characters that cannot be seen.

/** A stretch of a text: first place and the place after the last. */
export type Range = readonly [number, number];

export interface Segment {
  text: string;
  /** Whether the text is one character that is shown by its name. */
  hidden: boolean;
  /** Kinds of the marks that cover the piece. */
  marks: string[];
}

export interface Marks {
  kind: string;
  ranges: readonly Range[];
}

// Control characters; zero-width characters without a use in text; characters that change its direction; invisible tags.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Cut a text at the borders of its marks and around each hidden character. */
export function segments(text: string, marks: readonly Marks[] = []): Segment[] {
  const cuts = new Set([0, text.length]);
  const hidden = new Set<number>();
  for (const match of text.matchAll(HIDDEN)) {
    hidden.add(match.index);
    cuts.add(match.index).add(match.index + match[0].length);
  }
  const live = marks.filter(({ ranges }) => ranges.length);
  for (const { ranges } of live) {
    for (const [from, to] of ranges) cuts.add(Math.min(from, text.length)).add(Math.min(to, text.length));
  }
  const borders = [...cuts].sort((a, b) => a - b);
  const next = live.map(() => 0);
  const pieces: Segment[] = [];
  borders.forEach((from, i) => {
    const to = borders[i + 1];
    if (to === undefined) return;
    const kinds = live.flatMap(({ kind, ranges }, k) => {
      let at = next[k] ?? 0;
      while ((ranges[at]?.[1] ?? Infinity) <= from) at++;
      next[k] = at;
      return (ranges[at]?.[0] ?? Infinity) <= from ? [kind] : [];
    });
    pieces.push({ text: text.slice(from, to), hidden: hidden.has(from), marks: kinds });
  });
  return pieces;
}

/** Name a hidden character. */
export const codePoint = (character: string): string =>
  `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
