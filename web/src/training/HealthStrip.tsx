// A strip of health lights, one per stage: shape and colour; its findings with their fixes on click.
import { useSignal } from "@preact/signals";
import type { Chart, Stage } from "../contract";
import { VisibleText } from "../page/VisibleText";
import { LIGHTS, type Band, type Finding, type Health } from "./health";

export const healthOf = (stage: Stage): Health | null => (stage as Stage & { health?: Health | null }).health ?? null;
/** The training type; a stage of older data is its own. */
export const kindOf = (stage: Stage): string => (stage as Stage & { kind?: string }).kind ?? stage.name;
export const bandsOf = (chart: Chart): readonly Band[] => (chart as Chart & { bands?: Band[] }).bands ?? [];

export function HealthStrip({ stages }: { stages: readonly Stage[] }) {
  const open = useSignal("");
  const lights = stages.flatMap((stage) => {
    const health = healthOf(stage);
    return health ? [{ stage, health }] : [];
  });
  if (!lights.length) return null;
  const shown = lights.find(({ stage }) => stage.name === open.value);
  return (
    <div class="health">
      <ul class="lights" aria-label="Health of each stage">
        {lights.map(({ stage, health }) => {
          const { sign, kind } = LIGHTS[health.status];
          const count = health.findings.length;
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
                  <span class="small">
                    {health.status}
                    {count ? `, ${count} finding${count === 1 ? "" : "s"}` : ""}
                  </span>
                </span>
              </button>
            </li>
          );
        })}
      </ul>
      <div id="findings">
        {shown ? <Findings title={shown.stage.title} findings={shown.health.findings} /> : null}
      </div>
    </div>
  );
}

function Findings({ title, findings }: { title: string; findings: readonly Finding[] }) {
  if (!findings.length) return <p class="small">{title}: the health monitor found nothing to report.</p>;
  return (
    <ul class="findings card">
      {findings.map((finding) => {
        const { sign, kind } = LIGHTS[finding.status];
        return (
          <li>
            <span class={`tag ${kind}`}>
              <span aria-hidden="true">{sign} </span>
              {finding.status}
            </span>
            <div>
              <p>
                <VisibleText text={finding.message} />
                {finding.step === null ? null : <span class="small"> (step {finding.step})</span>}
              </p>
              {finding.fix ? (
                <p class="small">
                  Fix: <VisibleText text={finding.fix} />
                </p>
              ) : null}
            </div>
          </li>
        );
      })}
    </ul>
  );
}
