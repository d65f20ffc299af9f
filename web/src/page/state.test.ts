import { expect, test } from "vitest";
import { decodeState, encodeState, type PageState } from "./state";

test("a state comes back from its address", () => {
  const states: PageState[] = [
    { filter: {}, values: {} },
    { filter: { domain: ["a b", "c,d", ""], "pair@A>B": ["win"] }, values: { example: "id 3/?&#%<b>" } },
    { filter: { flag: ["cap_hit@PPO"] }, values: { search: "100 % = all", order: "0|-1|gold" } },
  ];
  for (const state of states) expect(decodeState(`#${encodeState(state)}`)).toEqual(state);
});

test("equal states have one address, whatever the order of their keys", () => {
  const one = encodeState({ filter: { b: ["1"], a: ["2"] }, values: { z: "1", y: "2" } });
  expect(encodeState({ filter: { a: ["2"], b: ["1"] }, values: { y: "2", z: "1" } })).toBe(one);
});

test("an address of a section or one that cannot be decoded holds no surprise", () => {
  expect(decodeState("#training")).toEqual({ filter: {}, values: {} });
  expect(decodeState("#example=%E0%A4%A").values.example).toBe("%E0%A4%A");
});
