import { expect, test } from "vitest";
import { nearest, smooth } from "./lines";

test("no weight changes nothing, and a constant stays one", () => {
  expect(smooth([1, null, 3], 0)).toEqual([1, null, 3]);
  for (const value of smooth([2, 2, null, 2], 0.9)) if (value !== null) expect(value).toBeCloseTo(2, 12);
});

test("a smoothed line is the weighted mean of what came before, and gaps stay gaps", () => {
  const found = smooth([1, null, 3], 0.5);
  expect(found[1]).toBeNull();
  expect(found[2]).toBeCloseTo((0.25 * 1 + 0.5 * 3) / 0.75, 12);
});

test("the nearest step", () => {
  expect([-5, 1, 2.4, 2.6, 99].map((x) => nearest([1, 2, 3, 8], x))).toEqual([0, 0, 1, 2, 3]);
});
