import { describe, expect, it } from "vitest";
import { difference, lines, words } from "./difference";
import type { Range } from "../page/segments";

const cut = (text: string, ranges: Range[]) => ranges.map(([from, to]) => text.slice(from, to));
const without = (text: string, ranges: Range[]) => {
  let at = 0;
  return ranges.map(([from, to]) => [text.slice(at, from), (at = to)][0]).join("") + text.slice(at);
};

describe("difference", () => {
  it("marks the words that changed", () => {
    const [a, b] = ["Rain falls from clouds.", "Snow falls from dark clouds."];
    const found = difference(a, b, "word");
    expect(cut(a, found.left)).toEqual(["Rain"]);
    expect(cut(b, found.right).join("|")).toMatch(/^Snow\|\s?dark\s?$/);
  });

  it("leaves the same text on both sides without its marks", () => {
    const texts = ["", "a", "a b\nc", "不同的文字 here\n", "x y z\n\n", "a\u0301 é 👩‍💻 b"];
    for (const a of texts) {
      for (const b of texts) {
        for (const unit of ["word", "line"] as const) {
          const found = difference(a, b, unit);
          expect(without(a, found.left)).toBe(without(b, found.right));
        }
      }
    }
  });

  it("compares Chinese by characters", () => {
    const [a, b] = ["我们下雨", "他们下雪"];
    expect(cut(b, difference(a, b, "word").right)).toEqual(["他", "雪"]);
  });

  it("splits without loss", () => {
    for (const text of ["a  b\n\nc", "it’s ok_1 — ü", "\n", "日本語 text\r\n"]) {
      expect(words(text).join("")).toBe(text);
      expect(lines(text).join("")).toBe(text);
    }
  });

  it("falls back to lines, then to no marks, and says so", () => {
    const tight = { word: { timeout: 1000, maxEditLength: 1 }, line: { timeout: 1000, maxEditLength: 50 } };
    const byLine = difference("a b c\nsame\n", "x y z\nsame\n", "word", tight);
    expect(byLine.unit).toBe("line");
    expect(byLine.note).toContain("by lines");
    const none = difference("a b c\n", "x y z\n", "word", { ...tight, line: { timeout: 1000, maxEditLength: 1 } });
    expect(none).toMatchObject({ unit: "none", left: [], right: [] });
  });

  it("takes less than half a second for two long unlike texts", () => {
    const text = (seed: number) => Array.from({ length: 20000 }, (_, i) => `w${(i * seed) % 7919}`).join(" ");
    const start = performance.now();
    difference(text(31), text(57), "word");
    expect(performance.now() - start).toBeLessThan(500);
  });
});
