// The rater's page: a prompt, two responses without names, and the choices.
import { ThemeSwitch } from "../page/ThemeSwitch";
import { VisibleText } from "../page/VisibleText";
import { Choices } from "./Choices";
import type { Session } from "./session";
import type { Task } from "./votes";

function Said({ text }: { text: string }) {
  if (!text.trim()) return <p class="said muted">{text ? "(whitespace only)" : "(empty)"}</p>;
  return (
    <div class="said" dir="auto">
      <VisibleText text={text} />
    </div>
  );
}

function Pair({ task }: { task: Task }) {
  return (
    <>
      <section class="asked card" aria-label="Prompt">
        {task.prompt.map((turn) => (
          <div class="turn">
            <h2>{turn.role === "user" ? "Prompt" : turn.role}</h2>
            <Said text={turn.text} />
          </div>
        ))}
      </section>
      <div class="pair">
        <section class="card" aria-label="Left response">
          <h2>Left</h2>
          <Said text={task.left} />
        </section>
        <section class="card" aria-label="Right response">
          <h2>Right</h2>
          <Said text={task.right} />
        </section>
      </div>
    </>
  );
}

function Download({ session }: { session: Session }) {
  const text = session.file();
  if (text === null) return null;
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([session.file() ?? ""], { type: "application/json" }));
    link.download = "votes.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return (
    <button type="button" class="download" onClick={save}>
      Download the votes
    </button>
  );
}

export function ReviewApp({ session }: { session: Session }) {
  const state = session.state.value;
  return (
    <>
      <header class="review-top">
        <h1>Which response is better?</h1>
        <ThemeSwitch />
        {state && (
          <div class="progress">
            <progress aria-label="Progress" value={state.done} max={state.total} />
            <span aria-live="polite">
              {state.done} of {state.total}
            </span>
          </div>
        )}
      </header>
      <main>
        <p id="problem" role="alert">
          {session.problem.value}
        </p>
        {state && (
          <details class="rubric" open={state.done === 0}>
            <summary>What to look for</summary>
            <p>{state.rubric}</p>
          </details>
        )}
        {state?.task ? <Pair task={state.task} /> : state && <p class="finished card">{state.message}</p>}
        {state && <Choices session={session} state={state} />}
        <Download session={session} />
      </main>
    </>
  );
}
