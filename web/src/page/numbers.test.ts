import { expect, test } from "vitest";
import { minus, number, percent, probability, short, typeset } from "./numbers";

test("numbers have a real minus sign, and zero has no sign", () => {
  expect([number(-1.234), number(1.5, 1, true), number(-0.0001, 3, true), number(null)]).toEqual(["−1.23", "+1.5", "0.000", "–"]);
});

test("three significant digits at every size", () => {
  expect([short(0), short(0.0001234), short(0.5), short(12.345), short(1234), short(-2e7)]).toEqual([
    "0.000", "1.2e−4", "0.500", "12.3", "1234", "−2.0e+7",
  ]);
});

test("shares, probabilities and hyphens of sentences", () => {
  expect([percent(0.123), probability(0.0004), probability(0.04)]).toEqual(["12.3 %", "< 0.001", "0.040"]);
  expect(minus("from -3 to (-2), well-known")).toBe("from −3 to (−2), well-known");
});

test("a sentence does not break between a number and its unit", () => {
  expect(typeset("ranks 73.8 % [-0.05, +0.67], sign test p = 0.045")).toBe(
    "ranks 73.8\u00a0% [−0.05, +0.67], sign test p\u00a0=\u00a00.045",
  );
});
