import { describe, expect, it } from "vitest";
import { START } from "./address";
import { corpus } from "./corpus.fixture";
import { csvCell, lineageOf, toCsv, toJson, toMarkdown, type Provenance } from "./export";
import { facetsOf } from "./facets";
import { NO_FILTER } from "./filter";
import { measuresOf } from "./measures";
import { exportNotes, fingerprint, importNotes, loadNotes, saveNotes, splitTags, tagCounts, withNote } from "./notes";
import { conditions, filterWords, orderWords } from "./words";

const origin: Provenance = {
  report: "Synthetic report",
  fingerprint: fingerprint(corpus),
  schema: 3,
  harken: "1.0",
  made: "2026-01-01",
  lineage: ["ppo.sha256: abc"],
  filter: "Domain: chat",
  order: "as evaluated",
  examples: 2,
  of: 4,
  exported: "2026-01-02T00:00:00Z",
  address: "f.domain=chat",
};
const notes = { a: { text: "=1+1", tags: ["odd"], when: "2026-01-01" } };

describe("exports", () => {
  it.each(["=1+1", "+1", "-1", "@x", "\tx", "\rx", " =1", "\n=1"])("guards a formula: %j", (text) => {
    expect(csvCell(text).replace(/^"/, "")[0]).toBe("'");
  });

  it("leaves numbers and other texts alone", () => {
    expect([csvCell(-1.5), csvCell("a"), csvCell(null), csvCell('a "b", c')]).toEqual(["-1.5", "a", "", '"a ""b"", c"']);
  });

  it("write one CSV line per response, with their origin", () => {
    const rows = toCsv(corpus, [0, 2], notes, origin).trimEnd().split("\r\n");
    expect(rows).toHaveLength(7);
    const head = rows[0]!.split(",");
    const cells = rows[3]!.split(",");
    const at = (name: string) => cells[head.indexOf(name)];
    expect([at("id"), at("policy"), at("reward"), at("score_gold"), at("flags")]).toEqual(["a", "PPO", "3", "-3", "refusal"]);
    expect([at("note"), at("tags"), at("extra_split"), at("filter"), at("report_fingerprint")]).toEqual([
      "'=1+1", "odd", "x", "Domain: chat", origin.fingerprint,
    ]);
  });

  it("write JSON that reads back", () => {
    const read = JSON.parse(toJson(corpus, [0], notes, origin));
    expect(read.provenance).toEqual(origin);
    expect(read.examples[0].responses[2].text).toBe("PPO replies to a");
    expect(read.examples[0].note.text).toBe("=1+1");
  });

  it("write Markdown in which a text cannot leave its fence", () => {
    const hostile = { ...corpus, examples: [{ ...corpus.examples[0]!, id: "<b>#x", messages: [{ role: "user", content: "a\n````\n# not a heading" }] }] };
    const text = toMarkdown(hostile, [0], {}, origin);
    expect(text).toContain("`````text\na\n````\n# not a heading\n`````");
    expect(text).toContain("## \\<b\\>\\#x");
    expect(text).toContain("Examples: 2 of 4");
  });

  it("collect hashes and versions of the stages", () => {
    expect(lineageOf([{ name: "ppo", facts: { model: { revision: "r1", size: 3 }, data_sha256: "s", steps: "9" } }])).toEqual([
      "ppo.model.revision: r1",
      "ppo.data_sha256: s",
    ]);
  });
});

describe("notes", () => {
  const memory = () => {
    const kept = new Map<string, string>();
    return { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) };
  };

  it("stay under the page's fingerprint", () => {
    const storage = memory();
    expect(saveNotes(storage, "p1", notes)).toBe(true);
    expect(loadNotes(storage, "p1").a?.text).toBe("=1+1");
    expect(loadNotes(storage, "p2")).toEqual({});
    storage.setItem("harken-notes:p3", "{broken");
    expect(loadNotes(storage, "p3")).toEqual({});
    expect(saveNotes({ getItem: () => null, setItem: () => { throw new Error("full"); } }, "p1", notes)).toBe(false);
    expect(loadNotes(null, "p1")).toEqual({});
  });

  it("have a fingerprint that follows the texts", () => {
    const other = { ...corpus, examples: corpus.examples.map((one) => ({ ...one, id: `${one.id}x` })) };
    expect(fingerprint(corpus)).toMatch(/^[0-9a-f]{16}$/);
    expect(fingerprint(other)).not.toBe(fingerprint(corpus));
    expect(fingerprint({ ...corpus })).toBe(fingerprint(corpus));
  });

  it("come back from a file; the later of two stays", () => {
    const file = exportNotes("p1", "t", { a: { text: "old", tags: [], when: "2025" }, b: { text: "b", tags: [], when: "2026" }, z: { text: "z", tags: [], when: "2026" } });
    const result = importNotes(file, "p1", new Set(["a", "b"]), notes);
    expect(result.added).toBe(1);
    expect(result.notes.a?.text).toBe("=1+1");
    expect(result.notes.b?.text).toBe("b");
    expect(result.message).toContain("1 of them");
    expect(importNotes(file, "p2", new Set(["a"]), {}).message).toContain("another page");
    expect(() => importNotes("{", "p1", new Set(), {})).toThrow(/not JSON/);
    expect(() => importNotes("{}", "p1", new Set(), {})).toThrow(/no notes/);
  });

  it("ignore a file that would change what objects inherit", () => {
    const hostile = '{"format":"harken-notes","version":1,"notes":{"__proto__":{"text":"x","tags":[],"when":"1"}}}';
    importNotes(hostile, "p", new Set(["__proto__"]), {});
    expect(({} as Record<string, unknown>).text).toBeUndefined();
  });

  it("are removed when they are empty", () => {
    expect(withNote(notes, "a", " ", [], "now")).toEqual({});
    expect(splitTags(" x, y,,x ")).toEqual(["x", "y"]);
    expect(tagCounts({ ...notes, b: { text: "", tags: ["odd", "new"], when: "" } })).toEqual([["odd", 2], ["new", 1]]);
  });
});

it("says a state in words", () => {
  const index = { corpus, facets: facetsOf(corpus), measures: measuresOf(corpus) };
  const state = {
    ...START,
    filter: { ...NO_FILTER, facets: { domain: ["chat", "code"] }, ranges: { "reward@PPO": [-1, null] as const }, sample: { seed: 7, size: 2 } },
    search: { text: "rain", isRegex: false, scope: "response@PPO" },
  };
  expect(conditions(index, state).map(({ text }) => text)).toEqual([
    "Domain: chat or code",
    "reward, PPO at least −1",
    "“rain” occurs in responses of PPO",
    "random sample of 2, seed 7",
  ]);
  const [first] = conditions(index, state);
  expect(first?.without.filter.facets).toEqual({});
  expect(first?.without.search).toBe(state.search);
  expect(filterWords(index, START)).toBe("no filter");
  expect(orderWords(index, { by: "margin@SFT>PPO", descending: true })).toBe("reward: PPO − SFT, highest first");
});
