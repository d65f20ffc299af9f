import { expect, it } from "vitest";
import { intensity, limitOf, linePath, seriesOf, traceNumber, valuesOf, zeroLine } from "./series";

it("writes numbers as the trace does", () => {
  // The texts of harken.inspection.trace_table.number without its spaces.
  const written: [number | null, string][] = [
    [null, "—"], [0, "0.000"], [-0.0004, "0.000"], [-0.0006, "-0.001"], [1.18449, "1.184"], [-3.2404, "-3.240"],
    [99.9994, "99.999"], [99.9995, "100.0"], [-123.44, "-123.4"], [9999.96, "1e+04"], [-260000, "-3e+05"], [0.0625, "0.062"], [-0.1875, "-0.188"], [100.25, "100.2"], [1.0005, "1.000"],
  ];
  for (const [value, text] of written) expect(traceNumber(value)).toBe(text);
});

it("offers the series that a response has", () => {
  const rollout = { id: "i", sample: 0, row: 0, why: "", prompt: "p", score: 1, stop: "length", pieces: ["a", "b"], kl: [0.1, -0.2], value: [null, null], clipped: [true, false] };
  expect(seriesOf(rollout).map((series) => series.key)).toEqual(["kl", "clipped"]);
  expect(valuesOf(rollout, "clipped")).toEqual([1, 0]);
});

it("scales by nearly the largest value", () => {
  const values = [...Array.from({ length: 99 }, (_, i) => i / 99), 50];
  expect(limitOf(values)).toBeLessThan(2);
  expect(intensity(50, limitOf(values))).toBe(1);
  expect(intensity(-50, limitOf(values))).toBe(-1);
  expect([limitOf([0, 0]), limitOf([null])]).toEqual([1, 1]);
});

it("breaks the line where a value is missing", () => {
  expect(linePath([1, null, -1], 10, 10)).toBe("M0.0 0.0M10.0 10.0");
  expect(zeroLine([1, -1], 10)).toBe(5);
  expect(linePath([null], 10, 10)).toBe("");
});
