// Regular expressions run in a worker: one that backtracks without end is stopped there, and the page goes on.

import type { Range } from "../page/segments";
import type { Field } from "./search";

interface Request {
  job: number;
  fields?: Field[];
  source?: string;
  flags?: string;
  places?: number[];
  texts?: string[];
}

interface Reply {
  job: number;
  found?: Uint8Array;
  ranges?: Range[][];
}

/** Milliseconds that one search may take. */
export const TIME_LIMIT = 1500;

export class TooSlow extends Error {}

/** The worker's code. It is sent as text, so it uses nothing outside itself. */
export function workerBody(scope: {
  onmessage: ((event: { data: Request }) => void) | null;
  postMessage: (reply: Reply) => void;
}): void {
  let fields: string[][] = [];
  scope.onmessage = ({ data }) => {
    if (data.fields) {
      fields = data.fields;
      return;
    }
    const source = data.source ?? "";
    const flags = data.flags ?? "";
    if (data.texts) {
      const ranges = data.texts.map((text) => {
        const hits: [number, number][] = [];
        for (const match of text.matchAll(new RegExp(source, flags))) {
          const at = match.index as number;
          if (match[0]) hits.push([at, at + match[0].length]);
          if (hits.length >= 2000) break;
        }
        return hits;
      });
      scope.postMessage({ job: data.job, ranges });
      return;
    }
    const test = new RegExp(source, flags.replace("g", ""));
    const found = new Uint8Array(fields.length ? (fields[0] as string[]).length : 0);
    for (const place of data.places ?? []) {
      const field = fields[place] ?? [];
      for (let row = 0; row < field.length; row++) {
        if (!found[row] && test.test(field[row] as string)) found[row] = 1;
      }
    }
    scope.postMessage({ job: data.job, found });
  };
}

interface Waiting {
  resolve: (reply: Reply) => void;
  reject: (error: Error) => void;
  timer: ReturnType<typeof setTimeout>;
}

/** Searches the fields with expressions. A search that takes too long is rejected with TooSlow. */
export class RegexSearcher {
  private worker: Worker | null = null;
  private jobs = 0;
  private readonly waiting = new Map<number, Waiting>();

  constructor(
    private readonly fields: () => Field[],
    private readonly limit = TIME_LIMIT,
  ) {}

  /** Search; an earlier search that still runs is ended. */
  async find(source: string, flags: string, places: number[]): Promise<Uint8Array> {
    if (this.waiting.size) this.stop(new TooSlow());
    const { found } = await this.ask({ source, flags, places });
    return found ?? new Uint8Array(0);
  }

  async ranges(source: string, flags: string, texts: string[]): Promise<Range[][]> {
    const { ranges } = await this.ask({ source, flags, texts });
    return ranges ?? [];
  }

  private ask(request: Omit<Request, "job">): Promise<Reply> {
    const job = ++this.jobs;
    return new Promise((resolve, reject) => {
      const worker = this.start(reject);
      if (!worker) return;
      const timer = setTimeout(() => this.stop(new TooSlow()), this.limit);
      this.waiting.set(job, { resolve, reject, timer });
      worker.postMessage({ ...request, job });
    });
  }

  private start(reject: (error: Error) => void): Worker | null {
    if (this.worker) return this.worker;
    try {
      const code = new Blob([`(${workerBody.toString()})(self)`], { type: "text/javascript" });
      const address = URL.createObjectURL(code);
      const worker = new Worker(address);
      worker.onmessage = ({ data }: MessageEvent<Reply>) => {
        const waiting = this.waiting.get(data.job);
        if (!waiting) return;
        clearTimeout(waiting.timer);
        this.waiting.delete(data.job);
        waiting.resolve(data);
      };
      worker.onerror = (event) => this.stop(new Error(event.message || "the worker could not start"));
      worker.postMessage({ job: 0, fields: this.fields() });
      this.worker = worker;
      return worker;
    } catch (error) {
      reject(error instanceof Error ? error : new Error(String(error)));
      return null;
    }
  }

  /** End the worker and reject what still waits; the next search starts another. */
  private stop(error: Error): void {
    this.worker?.terminate();
    this.worker = null;
    for (const { reject, timer } of this.waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.waiting.clear();
  }
}
