import { describe, expect, it } from "vitest";
import { corpus } from "./corpus.fixture";
import { workerBody } from "./regex_worker";
import { compile, fieldsOf, fieldsOfScope, findText, lowerCased, regexRanges, textRanges } from "./search";
import { codePoint, segments } from "../page/segments";

const fields = fieldsOf(corpus);
const lowered = lowerCased(fields);
const hits = (scope: string, text: string) => [...findText(lowered, fieldsOfScope(scope, corpus.policies), text)].join("");

describe("search", () => {
  it("ignores case and keeps to its scope", () => {
    expect(hits("all", "QUESTION B")).toBe("0100");
    expect(hits("prompt", "replies")).toBe("0000");
    expect(hits("response", "replies to c")).toBe("0010");
    expect(hits("response@SFT", "ppo")).toBe("0000");
    expect(hits("response@PPO", "ppo")).toBe("1111");
    expect(hits("id", "d")).toBe("0001");
    expect(hits("response@Nobody", "replies")).toBe("0000");
  });

  it("takes words literally", () => {
    expect(textRanges("a.b a+b A+B", "a+b")).toEqual([[4, 7], [8, 11]]);
    expect(textRanges("abc", "  ")).toEqual([]);
  });

  it("says what is wrong with an expression", () => {
    expect(compile("(rain|snow)$")).toEqual({ flags: "gimu", message: "" });
    expect(compile("a\\-b").flags).toBe("gim"); // valid without the u flag alone
    expect(compile("(").message).toContain("This is no regular expression");
  });

  it("runs the worker's code on the fields", () => {
    const replies: { job: number; found?: Uint8Array; ranges?: unknown }[] = [];
    const scope = { onmessage: null, postMessage: (reply: never) => replies.push(reply) } as never as Parameters<typeof workerBody>[0];
    // The worker gets this text and nothing else: it may use no name from outside.
    (new Function(`return ${workerBody.toString()}`)() as typeof workerBody)(scope);
    scope.onmessage?.({ data: { job: 0, fields } });
    scope.onmessage?.({ data: { job: 1, source: "to [bc]$", flags: "gimu", places: fieldsOfScope("response@PPO", corpus.policies) } });
    scope.onmessage?.({ data: { job: 2, source: "o+", flags: "gimu", texts: ["foo bo", ""] } });
    expect([...(replies[0]?.found ?? [])]).toEqual([0, 1, 1, 0]);
    expect(replies[1]?.ranges).toEqual([[[1, 3], [5, 6]], []]);
  });

  it("does not hang on empty matches", () => {
    expect(regexRanges("aaa", "b*", "giu")).toEqual([]);
  });
});

describe("segments", () => {
  it("put the text back together, with hidden characters and marks apart", () => {
    const text = "ab\u202ecd\u0000e";
    const pieces = segments(text, [
      { kind: "hit", ranges: [[1, 4]] },
      { kind: "added", ranges: [[0, 2], [6, 7]] },
    ]);
    expect(pieces.map((piece) => piece.text).join("")).toBe(text);
    expect(pieces.filter((piece) => piece.hidden).map((piece) => codePoint(piece.text))).toEqual(["U+202E", "U+0000"]);
    expect(pieces.map((piece) => [piece.text, piece.marks.join("+")])).toEqual([
      ["a", "added"],
      ["b", "hit+added"],
      ["\u202e", "hit"],
      ["c", "hit"],
      ["d", ""],
      ["\u0000", ""],
      ["e", "added"],
    ]);
  });

  it("keep joined emoji whole and name invisible tags", () => {
    expect(segments("👩\u200d💻")).toHaveLength(1);
    expect(segments("a\u{e0041}b").map((piece) => piece.hidden)).toEqual([false, true, false]);
    expect(codePoint("\u{e0041}")).toBe("U+E0041");
  });

  it("give nothing for an empty text", () => {
    expect(segments("")).toEqual([]);
  });
});
