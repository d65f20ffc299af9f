import { expect, test } from "vitest";
import { LINE, linesInView, scrollFor } from "./lines";

test("lines in view and twenty beyond either end, within the list", () => {
  expect(linesInView({ top: 0, height: 240 }, 6667)).toEqual([0, 28]);
  expect(linesInView({ top: 100 * LINE, height: 240 }, 6667)).toEqual([80, 128]);
  expect(linesInView({ top: 6660 * LINE, height: 240 }, 6667)).toEqual([6640, 6667]);
  expect(linesInView({ top: 0, height: 0 }, 0)).toEqual([0, 0]);
});

test("a list that became shorter than its scroll position has its last lines", () => {
  const [first, end] = linesInView({ top: 5000 * LINE, height: 240 }, 10);
  expect([first, end]).toEqual([9, 10]);
});

test("scrolling moves as little as it can", () => {
  const view = { top: 10 * LINE, height: 6 * LINE };
  expect(scrollFor(12, view)).toBe(10 * LINE);
  expect(scrollFor(3, view)).toBe(3 * LINE);
  expect(scrollFor(20, view)).toBe(15 * LINE);
});
