// Findings of the health monitor, and the bands in which a metric is healthy.

export type Status = "healthy" | "warning" | "unhealthy";

export interface Finding {
  name: string;
  status: Status;
  step: number | null;
  metric: string | null;
  message: string;
  fix: string;
}

export interface Band {
  low: number | null;
  high: number | null;
  label: string;
}

export interface Health {
  status: Status;
  findings: Finding[];
}

/** A shape and a class for each status: colour alone says nothing. */
export const LIGHTS: Record<Status, { sign: string; kind: string }> = {
  healthy: { sign: "●", kind: "good" },
  warning: { sign: "▲", kind: "unclear" },
  unhealthy: { sign: "■", kind: "bad" },
};
