// Which lines of a long list are in view, all of one height. A list of equal lines needs no measuring.

/** The height of a line in pixels. */
export const LINE = 34;
/** Lines that are drawn beyond either end of the view, so that a fast scroll shows no gap. */
const BEYOND = 20;

export interface View {
  top: number;
  height: number;
}

/** The first line to draw and the first after the last, of `count` lines. */
export function linesInView({ top, height }: View, count: number): [number, number] {
  const first = Math.floor(top / LINE) - BEYOND;
  const end = Math.ceil((top + height) / LINE) + BEYOND;
  return [Math.max(0, Math.min(first, count - 1)), Math.min(count, end)];
}

/** Where to scroll so that a line is wholly in view: no further than it takes. */
export function scrollFor(line: number, { top, height }: View): number {
  return Math.max(Math.min(top, line * LINE), (line + 1) * LINE - height);
}
