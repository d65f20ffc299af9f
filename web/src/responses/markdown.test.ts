import { describe, expect, it } from "vitest";
import { inlineOf, parseMarkdown, type Block, type Inline } from "./markdown";

const flat = (parts: Inline[]): string =>
  parts
    .map((part) => {
      if (part.kind === "text" || part.kind === "code") return part.text;
      return "children" in part ? flat(part.children) : "\n";
    })
    .join("");
const kinds = (text: string) => parseMarkdown(text).map((block) => block.kind);

describe("blocks", () => {
  it("reads what responses use", () => {
    const text = "# Title #\n\nA line\nanother\n\n- one\n- two\n  1. inner\n\n> quoted\n\n---\n\n```py\nx = 1\n```\n| a | b |\n|---|:-:|\n| 1 | 2 |";
    expect(kinds(text)).toEqual(["heading", "paragraph", "list", "quote", "rule", "code", "table"]);
    const list = parseMarkdown(text)[2] as Extract<Block, { kind: "list" }>;
    expect(list.start).toBeNull();
    expect(list.items).toHaveLength(2);
    expect(list.items[1]?.map((block) => block.kind)).toEqual(["paragraph", "list"]);
    const table = parseMarkdown(text)[6] as Extract<Block, { kind: "table" }>;
    expect(table.rows.map((row) => row.map(flat))).toEqual([["1", "2"]]);
  });

  it("keeps a fence that is not closed", () => {
    expect(parseMarkdown("```\na\n\n# b")).toEqual([{ kind: "code", language: "", text: "a\n\n# b", isClosed: false }]);
  });

  it("keeps numbers of an ordered list and does not start one inside a sentence", () => {
    expect((parseMarkdown("3. c\n4. d")[0] as Extract<Block, { kind: "list" }>).start).toBe(3);
    expect(kinds("It was in\n1998. A good year")).toEqual(["paragraph"]);
  });
});

describe("spans", () => {
  it("reads emphasis, code and escapes", () => {
    expect(inlineOf("a **b *c*** `d*` \\*e* snake_case_name 2 * 3 * 4")).toMatchObject([
      { text: "a " },
      { kind: "strong" },
      { text: " " },
      { kind: "code", text: "d*" },
      { text: " *e* snake_case_name 2 * 3 * 4" },
    ]);
  });

  it("keeps links, images and HTML as text with the address beside them", () => {
    const [link] = inlineOf("[click](javascript:alert(1))");
    expect(link).toMatchObject({ kind: "link", address: "javascript:alert(1" });
    expect(inlineOf("![x](http://a/b.png)")[0]).toMatchObject({ kind: "link", address: "http://a/b.png" });
    expect(inlineOf("see https://a.b/c.")).toMatchObject([{ text: "see " }, { kind: "link", address: "https://a.b/c" }, { text: "." }]);
    expect(inlineOf("<img src=x onerror=alert(1)>")).toEqual([{ kind: "text", text: "<img src=x onerror=alert(1)>" }]);
  });

  it.each(["*a", "**", "`", "[x](", "_a_b", "***", "\\", "![", "~~a~", "<http://x y>", "a*b*c**d"])("loses no text: %s", (text) => {
    expect(flat(inlineOf(text)).replace(/[*_~`]/g, "")).toBe(text.replace(/[*_~`]/g, "").replace(/\\$/, "\\"));
  });
});

declare const process: { cpuUsage(): { user: number; system: number } };

/** Processor time of this process in milliseconds: what else the machine does is not measured. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

it.each(["*", "**a", "`", "[", "[a](", "_a ", "~~", "> ", "- ", "|a", "![", "<http", "\\"])(
  "reads a long hostile text in time: %s",
  (piece) => {
    const start = processorTime();
    parseMarkdown(piece.repeat(20000));
    parseMarkdown(`${piece}\n`.repeat(5000));
    expect(processorTime() - start).toBeLessThan(1500);
  },
);
