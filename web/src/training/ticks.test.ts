import { expect, test } from "vitest";
import { extent, logLabels, logTicks, rootTicks, tickLabels, ticks } from "./ticks";

const RANGES: [number, number][] = [
  [0.0998, 0.1], [1e-9, 2e-9], [0.0002, 0.001], [-3, 1], [1234.5, 1234.9], [5e7, 6e7], [0, 1e-7], [0, 1],
];

test.each(RANGES)("labels of %d … %d differ and say where their ticks are", (low, high) => {
  const [a, b] = extent(low, high, 0.08);
  const { found, step } = ticks(a, b, 5);
  const labels = tickLabels(found, step, false);
  expect(found.length).toBeGreaterThanOrEqual(3);
  expect(new Set(labels).size).toBe(labels.length);
  labels.forEach((label, i) => {
    const said = Number(label.replaceAll("−", "-"));
    expect(Math.abs(said - found[i])).toBeLessThanOrEqual(0.01 * step + 1e-12 * Math.abs(found[i]));
    expect(found[i] >= a - 1e-9 * step && found[i] <= b + 1e-9 * step).toBe(true);
  });
});

test("shares are labelled in percent", () => {
  expect(tickLabels([0, 0.25, 0.5], 0.25, true)).toEqual(["0 %", "25 %", "50 %"]);
});

test("a root scale starts at 0 and its ticks do not touch", () => {
  const found = rootTicks(16);
  expect(found[0]).toBe(0);
  for (let i = 1; i < found.length; i += 1)
    expect(Math.sqrt(found[i] / 16) - Math.sqrt(found[i - 1] / 16)).toBeGreaterThanOrEqual(0.139);
});

test("a logarithmic axis has ticks in every range", () => {
  for (const [low, high] of [[1e-6, 1], [0.5, 2], [3, 3.1], [1, 1e9]] as const) {
    const found = logTicks(low, high);
    expect(found.length).toBeGreaterThanOrEqual(2);
    expect(new Set(logLabels(found, false)).size).toBe(found.length);
    expect(found.every((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9))).toBe(true);
  }
});
