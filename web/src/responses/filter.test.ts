import { describe, expect, it } from "vitest";
import { corpus } from "./corpus.fixture";
import { facetsOf } from "./facets";
import { applyFilter, known, NO_FILTER, type Filter } from "./filter";
import { isInside, plotPoints, rectangle, rowsInside, simplify } from "./lasso";
import { measuresOf } from "./measures";
import { FIRST_ORDER, ordered } from "./order";
import { drawSample } from "./sample";
import { wilson } from "./wilson";

const index = { corpus, facets: facetsOf(corpus), measures: measuresOf(corpus) };
const ids = (rows: number[]) => rows.map((row) => corpus.examples[row]?.id).join("");
const found = (filter: Partial<Filter>, hits: Uint8Array | null = null) =>
  applyFilter(index, { ...NO_FILTER, ...filter }, hits);
const facet = (key: string) => index.facets.find((one) => one.key === key)!;
const countOf = (result: ReturnType<typeof found>, key: string, value: string) =>
  result.counts[key]?.[facet(key).values.findIndex((one) => one.value === value)];

describe("facets", () => {
  it("counts what each value would give under the other conditions", () => {
    const all = found({});
    expect(ids(all.rows)).toBe("abcd");
    expect(countOf(all, "domain", "chat")).toBe(2);
    const chat = found({ facets: { domain: ["chat"] } });
    expect(ids(chat.rows)).toBe("ac");
    expect(countOf(chat, "domain", "code")).toBe(1); // another domain is still one click away
    expect(chat.totals.domain).toBe(4);
    expect(countOf(chat, "queue", "manual_review")).toBe(2);
    expect(chat.totals.queue).toBe(2);
  });

  it("joins values of one facet by or, and those of several by and", () => {
    expect(ids(found({ facets: { domain: ["chat", "code"] } }).rows)).toBe("abc");
    expect(ids(found({ facets: { domain: ["chat", "code"], agreement: ["2 SD or more"] } }).rows)).toBe("b");
    const both = { facets: { queue: ["manual_review", "strong_loss"] } };
    expect(ids(found(both).rows)).toBe("ac");
    expect(ids(found({ ...both, all: ["queue"] }).rows)).toBe("c");
  });

  it("knows truncation and repetition without an audit, by policy", () => {
    expect(ids(found({ facets: { flag: ["cap_hit@PPO"] } }).rows)).toBe("ac");
    expect(ids(found({ facets: { flag: ["repetition"] } }).rows)).toBe("ac");
    expect(ids(found({ facets: { flag: ["refusal"] } }).rows)).toBe("a");
    expect(countOf(found({}), "flag", "cap_hit@SFT")).toBe(0);
  });

  it("compares each pair by reward with the page's tolerance", () => {
    expect(ids(found({ facets: { "pair@SFT>PPO": ["tie"] } }).rows)).toBe("b");
    expect(ids(found({ facets: { "pair@Base>PPO": ["loss"] } }).rows)).toBe("d");
  });

  it("has a facet for a column of texts and limits for a column of numbers", () => {
    expect(ids(found({ facets: { "extra.split": ["y"] } }).rows)).toBe("b");
    expect(ids(found({ ranges: { "extra.level": [2, 3] } }).rows)).toBe("bc");
  });

  it("drops what the page does not have and says so", () => {
    const { filter, unknown } = known(index, {
      ...NO_FILTER,
      facets: { domain: ["chat", "nothing"], "extra.gone": ["1"] },
      ranges: { "reward@Nobody": [0, 1] },
    });
    expect(filter.facets).toEqual({ domain: ["chat"] });
    expect(filter.ranges).toEqual({});
    expect(unknown).toHaveLength(3);
  });
});

describe("limits, search and region", () => {
  it("leaves out examples without the number", () => {
    expect(ids(found({ ranges: { disagreement: [null, null] } }).rows)).toBe("abd");
    expect(ids(found({ ranges: { "margin@Base>PPO": [2, null] } }).rows)).toBe("a");
  });

  it("takes the hits of a search", () => {
    expect(ids(found({ facets: { domain: ["chat"] } }, Uint8Array.of(0, 1, 1, 0)).rows)).toBe("c");
  });

  it("tells inside from outside, also for a concave polygon", () => {
    const notch: [number, number][] = [[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]];
    expect(isInside(notch, [1, 1])).toBe(true);
    expect(isInside(notch, [2, 3])).toBe(false);
    expect(isInside(notch, [5, 1])).toBe(false);
    expect(isInside([], [0, 0])).toBe(false);
  });

  it("selects examples by a policy's point, or by any policy's", () => {
    const box = { x: "reward@SFT", y: "reward@PPO", points: rectangle([0.5, 1.5], [0.5, Infinity]) };
    expect(ids(found({ lasso: box }).rows)).toBe("ab");
    const any = { x: "reward", y: "length", points: rectangle([1.5, 9], [-Infinity, 15]) };
    expect([...rowsInside(index.measures, corpus, any)]).toEqual([0, 0, 0, 1]); // Base, ten tokens, reward 2
    expect(plotPoints(index.measures, corpus, "reward", "score.gold")).toHaveLength(9);
  });

  it("keeps an outline short", () => {
    const line = Array.from({ length: 900 }, (_, i): [number, number] => [i / 7, i * i]);
    expect(simplify(line).length).toBeLessThanOrEqual(48);
    expect(simplify(line.slice(0, 3))).toHaveLength(3);
  });
});

describe("orders and samples", () => {
  it("puts the largest first and the missing last, either way", () => {
    expect(ids(ordered([0, 1, 2, 3], index.measures, { by: "disagreement", descending: true }))).toBe("bdac");
    expect(ids(ordered([0, 1, 2, 3], index.measures, { by: "disagreement", descending: false }))).toBe("adbc");
    expect(ids(ordered([3, 1, 0], index.measures, { by: "index", descending: false }))).toBe("abd");
    expect(ids(ordered([0, 1, 2, 3], index.measures, FIRST_ORDER))).toBe("bdac");
    const equal = corpus.examples.map((one) => (one.id === "b" ? { ...one, same: [[0, 1], [0, 2], [1, 2]] } : one));
    const measures = measuresOf({ ...corpus, examples: equal });
    expect(ids(ordered([0, 1, 2, 3], measures, FIRST_ORDER))).toBe("dacb"); // equal responses say little
    const alone = measuresOf({ ...corpus, examples: equal.map((one) => ({ ...one, disagreement: null })) });
    expect(ids(ordered([0, 1, 2, 3], alone, FIRST_ORDER))).toBe("acdb"); // then by difference of rewards
  });

  it("draws the same rows for the same seed, others for another, nested by size", () => {
    const rows = Array.from({ length: 500 }, (_, i) => i);
    const names = rows.map((row) => `prompt ${row}`);
    const draw = (seed: number, size: number) => drawSample(rows, names, { seed, size });
    expect(draw(7, 20)).toEqual(draw(7, 20));
    expect(draw(7, 20)).not.toEqual(draw(8, 20));
    expect(draw(7, 40)).toEqual(expect.arrayContaining(draw(7, 20)));
    expect(draw(7, 900)).toHaveLength(500);
    const hits = new Array<number>(500).fill(0);
    for (let seed = 0; seed < 400; seed++) for (const row of draw(seed, 50)) hits[row] = (hits[row] ?? 0) + 1;
    expect(Math.max(...hits)).toBeLessThan(70); // 40 expected, standard deviation 6
    expect(Math.min(...hits)).toBeGreaterThan(15);
  });
});

it("gives Wilson's interval", () => {
  // scipy.stats.binomtest(13, 41).proportion_ci(method="wilson")
  const share = wilson(13, 41);
  expect(share.low).toBeCloseTo(0.1956461, 6);
  expect(share.high).toBeCloseTo(0.469842, 6);
  expect(wilson(0, 20)).toMatchObject({ low: 0 });
  expect(wilson(20, 20).high).toBe(1);
  expect(wilson(0, 0)).toMatchObject({ low: 0, high: 1 });
});
