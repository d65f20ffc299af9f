// A strip of health lights, one per stage: shape and colour; its findings with their fixes on click.
import { useSignal } from "@preact/signals";
import type { Finding, Stage } from "../contract";
import { VisibleText } from "../page/VisibleText";
import { duration } from "../page/numbers";
import { LIGHTS } from "./health";

const UNMONITORED = { sign: "○", kind: "" };

/** How far a stage is and how long it took, in words. */
function progress({ state }: Stage): string {
  const { completed, requested, seconds } = state;
  const part = requested !== null && completed < requested ? `${completed} of ${requested}` : "";
  const words = state.state === "completed" || state.state === "unknown" ? "" : state.state;
  return [words, part, seconds === null ? "" : duration(seconds)].filter(Boolean).join(", ");
}

function healthText({ health }: Stage): string {
  if (!health) return "not monitored";
  const count = health.findings.length;
  return count ? `${health.status}, ${count} finding${count === 1 ? "" : "s"}` : health.status;
}

export function HealthStrip({ stages }: { stages: readonly Stage[] }) {
  const open = useSignal("");
  if (!stages.length) return null;
  const shown = stages.find((stage) => stage.name === open.value);
  return (
    <div class="health">
      <ul class="lights" aria-label="Health of each stage">
        {stages.map((stage) => {
          const { sign, kind } = stage.health ? LIGHTS[stage.health.status] : UNMONITORED;
          return (
            <li>
              <button
                type="button"
                class={`light ${kind}`}
                aria-expanded={open.value === stage.name}
                aria-controls="findings"
                onClick={() => {
                  open.value = open.value === stage.name ? "" : stage.name;
                }}
              >
                <span class="sign" aria-hidden="true">
                  {sign}
                </span>
                <span>
                  <b>{stage.title}</b>
                  <span class="small">{[healthText(stage), progress(stage)].filter(Boolean).join(" · ")}</span>
                </span>
              </button>
            </li>
          );
        })}
      </ul>
      <div id="findings">{shown ? <Findings stage={shown} /> : null}</div>
    </div>
  );
}

function Findings({ stage }: { stage: Stage }) {
  const { title, health, state } = stage;
  return (
    <>
      {state.reason ? (
        <p class="small">
          {title} {state.state}: <VisibleText text={state.reason} />
        </p>
      ) : null}
      {health?.findings.length ? (
        <ul class="findings card">
          {health.findings.map((finding) => (
            <FindingView finding={finding} />
          ))}
        </ul>
      ) : (
        <p class="small">
          {title}: {health ? `nothing to report up to step ${health.step}.` : "no metrics to monitor."}
        </p>
      )}
    </>
  );
}

function FindingView({ finding }: { finding: Finding }) {
  const { sign, kind } = LIGHTS[finding.status];
  const steps = finding.step === finding.last ? `step ${finding.step}` : `steps ${finding.step} to ${finding.last}`;
  return (
    <li>
      <span class={`tag ${kind}`}>
        <span aria-hidden="true">{sign} </span>
        {finding.status}
      </span>
      <div>
        <p>
          <VisibleText text={finding.message} />{" "}
          <span class="small">
            ({steps}
            {finding.current ? "" : ", cleared since"})
          </span>
        </p>
        {finding.cause ? (
          <p class="small">
            <VisibleText text={finding.cause} />
          </p>
        ) : null}
        {finding.fix ? (
          <p class="small">
            <b>Fix:</b> <VisibleText text={finding.fix} />
          </p>
        ) : null}
      </div>
    </li>
  );
}
