// What a rater sees and sends. Sides only: nothing here knows which policy wrote a text.

export type Choice = "left" | "right" | "tie" | "both_bad" | "skip" | "undo";

export interface Turn {
  role: string;
  text: string;
}
export interface Task {
  id: string;
  prompt: Turn[];
  left: string;
  right: string;
}
export interface State {
  rubric: string;
  reasons: string[];
  done: number;
  total: number;
  message: string;
  task: Task | null;
  last: { uuid: string; task: string } | null;
}
export interface Vote {
  uuid: string;
  task: string;
  choice: Choice;
  strength: number;
  reasons: string[];
  seconds: number;
  shown_at: string;
  client: string;
  supersedes: string;
}

/** Where items come from and votes go: a server, or the file itself. */
export interface Source {
  state(): Promise<State>;
  vote(vote: Vote): Promise<State>;
  /** The votes as a file to send back; null where a server has them. */
  file(): string | null;
}

/** The server refused: another try of the same request would be refused again. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** A random UUID. `crypto.randomUUID` is missing on pages that are served without TLS. */
export function newUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The standing vote of every task, in the order in which they were given: an undo takes one away. */
export function standing(votes: readonly Vote[]): Map<string, Vote> {
  const found = new Map<string, Vote>();
  for (const vote of votes) {
    found.delete(vote.task);
    if (vote.choice !== "undo") found.set(vote.task, vote);
  }
  return found;
}
