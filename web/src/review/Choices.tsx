// The choices with their keys, strength and reasons.
import type { Session } from "./session";
import type { Choice, State } from "./votes";

export const KEYS: Readonly<Record<string, Choice>> = {
  "1": "left",
  "2": "right",
  t: "tie",
  b: "both_bad",
  s: "skip",
  u: "undo",
};
const LABELS: readonly [Choice, string, string][] = [
  ["left", "Left", "1"],
  ["tie", "Tie", "t"],
  ["both_bad", "Both bad", "b"],
  ["right", "Right", "2"],
];
const STRENGTHS: readonly [number, string, string][] = [
  [1, "slightly", "q"],
  [2, "clearly", "w"],
  [3, "much", "e"],
];

/** Act on a key. Returns whether it meant something here. */
export function press(session: Session, key: string): boolean {
  const strength = STRENGTHS.find(([, , own]) => own === key);
  if (strength) session.strength.value = session.strength.value === strength[0] ? 0 : strength[0];
  else if (KEYS[key]) session.vote(KEYS[key]);
  else return false;
  return true;
}

export function Choices({ session, state }: { session: Session; state: State }) {
  const toggle = (reason: string) => {
    const now = session.reasons.value;
    session.reasons.value = now.includes(reason) ? now.filter((one) => one !== reason) : [...now, reason];
  };
  return (
    <div class="choices">
      {state.task && (
        <>
          <fieldset>
            <legend>How much better? (optional)</legend>
            {STRENGTHS.map(([value, label, key]) => (
              <button
                type="button"
                aria-pressed={session.strength.value === value}
                onClick={() => press(session, key)}
              >
                {label} <kbd>{key}</kbd>
              </button>
            ))}
          </fieldset>
          {state.reasons.length > 0 && (
            <fieldset>
              <legend>Why? (optional)</legend>
              {state.reasons.map((reason) => (
                <label>
                  <input
                    type="checkbox"
                    checked={session.reasons.value.includes(reason)}
                    onChange={() => toggle(reason)}
                  />
                  {reason}
                </label>
              ))}
            </fieldset>
          )}
          <div class="vote" role="group" aria-label="Your vote">
            {LABELS.map(([choice, label, key]) => (
              <button
                type="button"
                data-choice={choice}
                disabled={session.sending.value}
                onClick={() => session.vote(choice)}
              >
                {label} <kbd>{key}</kbd>
              </button>
            ))}
          </div>
        </>
      )}
      <div class="further">
        {state.task && (
          <button type="button" data-choice="skip" disabled={session.sending.value} onClick={() => session.vote("skip")}>
            Skip <kbd>s</kbd>
          </button>
        )}
        <button
          type="button"
          data-choice="undo"
          disabled={session.sending.value || !state.last}
          onClick={() => session.vote("undo")}
        >
          Undo the last vote <kbd>u</kbd>
        </button>
      </div>
    </div>
  );
}
