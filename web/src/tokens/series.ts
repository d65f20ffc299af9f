// What the token view draws: one number per token, its colour and its text.

/** One number per token; null where the update recorded none. */
export type Values = readonly (number | null)[];

/** One response token by token: pieces of text, and arrays of the same length by series. */
export interface Rollout {
  id: string;
  sample: number;
  row: number;
  why: string;
  prompt: string;
  score: number | null;
  stop: string;
  pieces: string[];
}

export interface Series {
  key: string;
  title: string;
  meaning: string;
  /** Whether 0 is the middle of the scale; otherwise it is the lower end. */
  isDiverging: boolean;
}

export const SERIES: Series[] = [
  { key: "advantage", title: "advantage", meaning: "What the policy loss used; above 0 the token is made more likely.", isDiverging: true },
  { key: "kl", title: "KL", meaning: "Log-probability before the update minus the reference's, in nats.", isDiverging: true },
  { key: "log_ratio", title: "log-ratio", meaning: "Log-probability after the update minus before it, in nats.", isDiverging: true },
  { key: "value", title: "value", meaning: "The critic's estimate of the reward to come.", isDiverging: true },
  { key: "return", title: "reward-to-go", meaning: "The critic's target: the return from this token on.", isDiverging: true },
  { key: "reward", title: "reward", meaning: "Reward of this token: the KL penalty, and the response's score at the end.", isDiverging: true },
  { key: "entropy", title: "entropy", meaning: "Entropy of the policy's next-token distribution, in nats.", isDiverging: false },
  { key: "clipped", title: "clip flag", meaning: "1 where the ratio left the clip range.", isDiverging: false },
  { key: "logprob", title: "log-probability", meaning: "Log-probability of the token before the update, in nats.", isDiverging: true },
  { key: "new_logprob", title: "new log-probability", meaning: "Log-probability of the token after the update, in nats.", isDiverging: true },
  { key: "ref_logprob", title: "reference log-probability", meaning: "Log-probability of the token by the reference, in nats.", isDiverging: true },
];

/** Return the numbers of one series of a rollout; null if it has none. */
export function valuesOf(rollout: Rollout, key: string): Values | null {
  const values: unknown = (rollout as unknown as Record<string, unknown>)[key];
  if (!Array.isArray(values) || values.every((value) => value === null)) return null;
  return values.map((value) => (typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : null));
}

/** Return the series that a rollout has. */
export const seriesOf = (rollout: Rollout): Series[] => SERIES.filter(({ key }) => valuesOf(rollout, key) !== null);

/** Share of the tokens whose size the scale covers; the largest few would make all others pale. */
const COVERED = 0.98;

/** Return the size at which a colour is full: a quantile of the absolute values, and 1 where all are 0. */
export function limitOf(values: Values): number {
  const sizes = values.filter((value) => value !== null).map(Math.abs);
  sizes.sort((a, b) => a - b);
  const at = Math.min(sizes.length - 1, Math.ceil(COVERED * sizes.length) - 1);
  return sizes[Math.max(0, at)] || sizes[sizes.length - 1] || 1;
}

/** Return the place of a value on the scale, −1 to 1. */
export const intensity = (value: number, limit: number): number => Math.max(-1, Math.min(1, value / limit));

/** Write a number as `harken trace` does: three decimals, no negative zero, — for none. */
export function traceNumber(value: number | null): string {
  if (value === null) return "—";
  const size = Math.abs(value);
  if (size < 99.9995) return fixed(value, 3).replace(/^-(?=0\.000$)/, "");
  if (size < 9999.95) return fixed(value, 1);
  const [mantissa = "", exponent = "0"] = value.toExponential(0).split("e");
  const power = Number(exponent);
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** Write a number with fixed decimals; a half goes to the even digit, as in Python, where toFixed rounds it away from 0. */
function fixed(value: number, digits: number): string {
  const scaled = value * 10 ** digits;
  // Only multiples of 1/16 can lie exactly between two decimals; there the product is exact.
  const isHalf = Number.isInteger(value * 16) && Math.abs(scaled % 1) === 0.5;
  return (isHalf ? (2 * Math.round(scaled / 2)) / 10 ** digits : value).toFixed(digits);
}

/** Return the points of a line through the values in a box, as SVG takes them; null values break the line. */
export function linePath(values: Values, width: number, height: number): string {
  const present = values.filter((value) => value !== null);
  if (!present.length) return "";
  const [low, high] = [Math.min(0, ...present), Math.max(0, ...present)];
  const y = (value: number) => height - ((value - low) / (high - low || 1)) * height;
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  let isOpen = false;
  return values
    .map((value, i) => {
      if (value === null) {
        isOpen = false;
        return "";
      }
      const command = isOpen ? "L" : "M";
      isOpen = true;
      return `${command}${(i * step).toFixed(1)} ${y(value).toFixed(1)}`;
    })
    .join("");
}

/** Return where 0 lies in the box of linePath. */
export function zeroLine(values: Values, height: number): number {
  const present = values.filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...present), Math.max(0, ...present)];
  return height - ((0 - low) / (high - low || 1)) * height;
}
