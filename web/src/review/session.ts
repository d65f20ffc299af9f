// The state of the page, and what a key or a button does.
import { signal } from "@preact/signals";
import { VisibleClock } from "./clock";
import { type Choice, newUuid, Refused, type Source, type State, type Vote } from "./votes";

const RETRY = 1500;

export function createSession(source: Source) {
  const state = signal<State | null>(null);
  /** A vote is on its way: nothing else is accepted until it is stored. */
  const sending = signal(false);
  const problem = signal("");
  const strength = signal(0);
  const reasons = signal<string[]>([]);
  const clock = new VisibleClock(() => performance.now());
  let shownAt = "";

  function show(found: State): void {
    const same = state.value?.task?.id === found.task?.id && state.value?.done === found.done;
    state.value = found;
    problem.value = "";
    if (same) return;
    strength.value = 0;
    reasons.value = [];
    shownAt = new Date().toISOString();
    clock.restart(document.visibilityState === "visible");
    window.scrollTo(0, 0);
  }

  async function load(): Promise<void> {
    try {
      show(await source.state());
    } catch (error) {
      problem.value = error instanceof Refused ? error.message : "The server cannot be reached. Trying again …";
      if (!(error instanceof Refused)) setTimeout(() => void load(), RETRY);
    }
  }

  /** Send a vote until it is stored. Its uuid makes a second try harmless. */
  async function send(vote: Vote): Promise<void> {
    sending.value = true;
    for (;;) {
      try {
        show(await source.vote(vote));
        break;
      } catch (error) {
        if (error instanceof Refused) {
          const why = error.message;
          await load();
          problem.value = why;
          break;
        }
        problem.value = "This vote is not stored yet: the server cannot be reached. Trying again …";
        await new Promise((resolve) => setTimeout(resolve, RETRY));
      }
    }
    sending.value = false;
  }

  function vote(choice: Choice): void {
    const now = state.value;
    if (sending.value || !now) return;
    const undone = choice === "undo" ? now.last : null;
    if (choice === "undo" ? !undone : !now.task) return;
    const decided = choice === "left" || choice === "right";
    void send({
      uuid: newUuid(),
      task: undone ? undone.task : now.task!.id,
      choice,
      strength: decided ? strength.value : 0,
      reasons: decided ? reasons.value : [],
      seconds: clock.seconds(),
      shown_at: shownAt,
      client: "page",
      supersedes: undone ? undone.uuid : "",
    });
  }

  document.addEventListener("visibilitychange", () => clock.show(document.visibilityState === "visible"));
  return { state, sending, problem, strength, reasons, load, vote, file: source.file };
}

export type Session = ReturnType<typeof createSession>;
