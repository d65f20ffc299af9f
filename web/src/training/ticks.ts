// Positions and labels of an axis: round numbers whose labels differ.
import { number } from "../page/numbers";

/** Round ticks within low … high, and the distance between them. */
export function ticks(low: number, high: number, count: number): { found: number[]; step: number } {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9))!;
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return { found, step };
}

/** Labels for ticks, with enough digits to distinguish neighbours that are `step` apart. */
export function tickLabels(values: readonly number[], step: number, share: boolean): string[] {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + (share ? 2 : 0) + 1e-9));
  const largest = Math.max(...values.map(Math.abs));
  if (share) return values.map((value) => `${number(100 * value, digits)} %`);
  if (largest >= 0.01 && largest < 1e6)
    return values.map((value) => (value === 0 ? "0" : number(value, digits)));
  return values.map((value) => {
    if (value === 0) return "0";
    const more = Math.floor(Math.log10(Math.abs(value)) + 1e-9) - Math.floor(Math.log10(step) + 1e-9);
    return value.toExponential(Math.max(0, Math.min(more, 20))).replaceAll("-", "−");
  });
}

/** Round ticks of an axis from 0 with a square-root scale, far enough apart to be read. */
export function rootTicks(high: number): number[] {
  const found = [0];
  for (let power = 0.01; power <= high; power *= 10) {
    for (const value of [power, 2 * power, 5 * power]) {
      const last = found[found.length - 1];
      if (value <= high && Math.sqrt(value / high) - Math.sqrt(last / high) >= 0.14) found.push(value);
    }
  }
  return found;
}

/** Ticks of a logarithmic axis: 1, 2, 5 of each decade, or powers of ten where there are many decades. */
export function logTicks(low: number, high: number): number[] {
  const decades = Math.log10(high / low);
  const digits = decades > 4 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5];
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    for (const digit of digits) {
      const value = digit * 10 ** power;
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) found.push(value);
    }
  return found.length >= 2 ? found : ticks(low, high, 4).found;
}

/** Each label by its own size: the ticks of a logarithmic axis. */
export function logLabels(values: readonly number[], share: boolean): string[] {
  return values.map((value) => {
    const scaled = share ? 100 * value : value;
    const power = Math.floor(Math.log10(scaled) + 1e-9);
    const text =
      power < -3 || power > 5 ? scaled.toExponential(1).replaceAll("-", "−") : String(Number(scaled.toPrecision(4)));
    return share ? `${text} %` : text;
  });
}

/** The range of an axis: the values with room around them; never of no width. */
export function extent(low: number, high: number, room: number): [number, number] {
  const margin = (high - low || Math.abs(high) || 1) * room;
  return [low - margin, high + margin];
}
