import { describe, expect, it } from "vitest";
import { endTexts, PLOT, scaleOf, shareScale } from "./intervals";
import { percent, points, signed } from "./numbers";

const of = (low: number, high: number) => ({ value: (low + high) / 2, low, high });

describe("the axis of intervals", () => {
  it("has round ends around everything it shows", () => {
    const scale = scaleOf([of(-0.031, 0.22), null, of(0.1, 0.43)], 0);
    expect([scale.low, scale.high].map((end) => Number(end.toFixed(9)))).toEqual([-0.1, 0.5]);
    expect(endTexts(scale, signed)).toEqual(["−0.1", "+0.5"]);
    expect(scale.at(scale.low)).toBeCloseTo(PLOT.pad);
    expect(scale.at(scale.high)).toBeCloseTo(PLOT.width - PLOT.pad);
  });

  it("keeps a reference that lies outside, and a single value inside", () => {
    const far = scaleOf([of(4.2, 4.9)], 0);
    expect([far.low, far.high]).toEqual([0, 5]);
    const one = scaleOf([{ value: 0, low: null, high: null }], 0);
    expect(one.low).toBeLessThan(one.high);
    expect(Number.isFinite(one.at(0))).toBe(true);
  });

  it("is 0 to 100 % for shares, however small they are", () => {
    expect(endTexts(shareScale(), percent)).toEqual(["0 %", "100 %"]);
    expect(shareScale().at(0.06)).toBeLessThan(shareScale().at(0.1));
    expect(endTexts(scaleOf([of(-0.5, 1)], 0), points)).toEqual(["−50 pt", "+100 pt"]);
  });
});
