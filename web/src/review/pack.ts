// A review inside the file: votes stay on this device until they are downloaded.
import { type Source, standing, type State, type Task, type Vote } from "./votes";

export interface Pack {
  study: string;
  rubric: string;
  reasons: string[];
  tasks: Task[];
}
/** As much of localStorage as a pack needs. */
export interface Storage {
  get(): string | null;
  set(text: string): void;
}
const FINISHED = "All items are done. Download the votes, and send the file back.";

export function unpack(encoded: string): Pack {
  const bytes = Uint8Array.from(atob(encoded.trim()), (letter) => letter.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes)) as Pack;
}

export function packSource(pack: Pack, storage: Storage): Source {
  const votes: Vote[] = JSON.parse(storage.get() ?? "[]") as Vote[];
  function state(): State {
    const known = standing(votes);
    const task = pack.tasks.find((one) => !known.has(one.id)) ?? null;
    const last = [...known.values()].at(-1);
    return {
      rubric: pack.rubric,
      reasons: pack.reasons,
      done: pack.tasks.filter((one) => known.has(one.id)).length,
      total: pack.tasks.length,
      message: task ? "" : FINISHED,
      task,
      last: last ? { uuid: last.uuid, task: last.task } : null,
    };
  }
  return {
    state: () => Promise.resolve(state()),
    vote: (vote) => {
      votes.push(vote);
      storage.set(JSON.stringify(votes));
      return Promise.resolve(state());
    },
    file: () => JSON.stringify({ study: pack.study, votes }, null, 1),
  };
}

/** Storage of the browser; a page from the disk may have none, and then votes last until it is closed. */
export function browserStorage(key: string): Storage {
  let kept: string | null = null;
  return {
    get() {
      try {
        return localStorage.getItem(key);
      } catch {
        return kept;
      }
    },
    set(text) {
      kept = text;
      try {
        localStorage.setItem(key, text);
      } catch {
        /* kept in memory */
      }
    },
  };
}
