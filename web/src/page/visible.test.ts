import { expect, test } from "vitest";
import { codePoint, pieces } from "./visible";

test("the pieces of a text are the text", () => {
  const text = "a\u202egnp.exe\u202c \u0007 und\u200b so <b>x</b>";
  expect(pieces(text).map((piece) => piece.text).join("")).toBe(text);
  expect(pieces(text).filter((p) => p.kind === "hidden").map((p) => codePoint(p.text))).toEqual([
    "U+202E", "U+202C", "U+0007", "U+200B",
  ]);
});

test("a hit is found whatever its case, and its signs mean themselves", () => {
  expect(pieces("Is 1+1 = 1+1?", "1+1").filter((p) => p.kind === "hit")).toHaveLength(2);
  expect(pieces("RAIN and rain", "Rain").filter((p) => p.kind === "hit")).toHaveLength(2);
});
