// A shape and a class for each status: colour alone says nothing.
import type { Chart, Finding } from "../contract";

export type Band = Chart["bands"][number];
export type Status = Finding["status"] | "healthy";

export const LIGHTS: Record<Status, { sign: string; kind: string }> = {
  healthy: { sign: "●", kind: "good" },
  note: { sign: "◆", kind: "level" },
  warning: { sign: "▲", kind: "unclear" },
  unhealthy: { sign: "■", kind: "bad" },
};

/** The CSS variable of a band's colour. */
export const BAND_COLOURS: Record<Band["label"], string> = {
  healthy: "--band",
  warning: "--band-warning",
  unhealthy: "--band-unhealthy",
};
