import { describe, expect, it } from "vitest";
import { decodeState, EMPTY, encodeState } from "../page/state";
import { fromPage, START, toPage, type State } from "./address";

const toAddress = (state: State) => encodeState(toPage(state, EMPTY));
const fromAddress = (hash: string) => fromPage(decodeState(hash));

const full: State = {
  filter: {
    facets: { domain: ["chat, small", "", "a&b=c#d%"], "pair@Base>PPO": ["win"] },
    all: ["flag"],
    ranges: { "reward@PPO": [-1.5, null], disagreement: [null, 2], "length@A,B": [1, 2] },
    lasso: { x: "reward@SFT", y: "reward@PPO", points: [[0, 1], [2.5, -3], [1e-7, 4]] },
    ids: ["id 3/?&#%<b>", "ü,ß"],
    sample: { seed: 42, size: 50 },
  },
  search: { text: "a+b, c&d = 100 %\n", isRegex: true, scope: "response@PPO" },
  order: { by: "margin@SFT>PPO", descending: true },
  selected: "id 9/?&#%<b>,x",
  modes: { diff: { left: "Base", right: "PPO, large", unit: "line" }, blind: true, markdown: true },
  plot: ["reward", "length"],
  tokens: { stage: "ppo", step: 3, rollout: 0, series: "kl" },
};

describe("addresses", () => {
  it("give back the whole state", () => {
    expect(fromAddress(`#${toAddress(full)}`)).toEqual({ state: full, ignored: [] });
  });

  it("are short for a state that shows one example", () => {
    expect(toAddress({ ...START, selected: "id 9" })).toBe("example=id%209");
    expect(toAddress(START)).toBe("");
  });

  it("keep what other sections wrote", () => {
    const page = { filter: {}, values: { smooth: "0.5", blind: "1" } };
    expect(toPage(fromPage(page).state, page)).toEqual(page);
    expect(toPage(START, page).values).toEqual({ smooth: "0.5" });
    expect(fromPage(page).ignored).toEqual([]);
  });

  it("that name a section hold no state", () => {
    expect(fromAddress("#training")).toEqual({ state: START, ignored: [] });
  });

  it.each([
    ["r.reward=x,1"],
    ["r.reward=,"],
    ["r.reward=1"],
    ["region=a,b,1,2"],
    ["region=a,b,1,2,3,x"],
    ["sample=-1,3"],
    ["sample=1,0"],
    ["order=reward,sideways"],
    ["diff=A,B,letters"],
    ["tokens=ppo,x,1,kl"],
    ["blind=yes"],
  ])("ignore a damaged part and name it: %s", (part) => {
    const parsed = fromAddress(`#${part}&search=rain`);
    expect(parsed.state).toEqual({ ...START, search: { ...START.search, text: "rain" } });
    expect(parsed.ignored).toHaveLength(1);
  });

  it("cannot change what every object inherits", () => {
    const parsed = fromAddress("#f.__proto__=polluted");
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(parsed.state.filter.facets)).toBe(Object.prototype);
  });

  it("survive half of a surrogate pair", () => {
    expect(() => toAddress({ ...START, selected: "\ud800" })).not.toThrow();
  });
});
