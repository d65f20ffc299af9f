// Text of models and users, unchanged: split it so that invisible characters can be labelled and hits be marked.

/** Control characters, zero-width characters, and characters that change the direction of text. */
export const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff]/;

export type Piece = { kind: "text" | "hidden" | "hit"; text: string };

export function codePoint(character: string): string {
  return `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
}

export const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Split a text into plain text, hidden characters, and hits of `needle` (a text, or an expression without groups). */
export function pieces(text: string, needle: string | RegExp = ""): Piece[] {
  const source = typeof needle === "string" ? literal(needle) : needle.source;
  const split = new RegExp(source ? `(${HIDDEN.source}|${source})` : `(${HIDDEN.source})`, "giu");
  const found: Piece[] = [];
  text.split(split).forEach((part, index) => {
    if (!part) return;
    if (index % 2 === 0) found.push({ kind: "text", text: part });
    else if (part.length === 1 && HIDDEN.test(part)) found.push({ kind: "hidden", text: part });
    else found.push({ kind: "hit", text: part });
  });
  return found;
}
