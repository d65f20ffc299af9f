// Numbers as text: a real minus sign, fixed digits, shares as percent.

type Maybe = number | null | undefined;

/** Format a number with fixed digits and a minus sign (−); with `sign`, also a plus. */
export function number(value: Maybe, digits = 2, sign = false): string {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  const zero = Number(text) === 0;
  if (value < 0 && !zero) return `−${text}`;
  return sign && !zero ? `+${text}` : text;
}

export const percent = (share: number, digits = 1): string => `${number(100 * share, digits)} %`;
export const signed = (value: number): string => number(value, 3, true);
export const plain = (value: number): string => number(value, 3);
/** A difference of shares in percentage points. */
export const points = (value: number): string => `${number(100 * value, 1, true)} pt`;
export const probability = (p: number): string => (p < 0.001 ? "< 0.001" : p.toFixed(3));
export const counted = (count: number, noun: string): string =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Format a number with about three significant digits. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1).replaceAll("-", "−");
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** Replace the hyphens before digits of a sentence by minus signs. */
export const minus = (text: string): string => text.replace(/(^|[\s([])-(?=\d)/g, "$1−");

/** Set a sentence: minus signs, and no line break between a number and its percent sign or after "p =". */
export const typeset = (text: string): string =>
  minus(text).replace(/(?<=\d) (?=%)|(?<=\bp) (?=[=<])|(?<=\bp [=<]) (?=\d)/g, "\u00a0");

/** A time in seconds as text of its two largest units. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
