// The section "Tokens": responses of recorded updates, token by token.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { PageData } from "../contract";
import { counted, minus, number } from "../page/numbers";
import { Section } from "../page/Section";
import { loadShards } from "../page/shards";
import { pageState } from "../page/state";
import { fromPage, type TokenPlace, toPage } from "../responses/address";
import { LongText } from "../responses/LongText";
import { CriticPlot } from "./CriticPlot";
import { Heatmap } from "./Heatmap";
import { type Rollout, SERIES, seriesOf, traceNumber, valuesOf } from "./series";

type Step = PageData["tokens"]["steps"][number];

/** Change what the token view shows; the address follows. */
function change(place: TokenPlace): void {
  const { state } = fromPage(pageState.peek());
  pageState.value = toPage({ ...state, tokens: place }, pageState.peek());
}

export function Tokens({ data }: { data: PageData }) {
  const { steps, rule } = data.tokens;
  const wanted = useComputed(() => fromPage(pageState.value).state.tokens);
  const place = wanted.value;
  const step = steps.find((one) => place && one.stage === place.stage && one.step === place.step) ?? steps[steps.length - 1];
  const rollouts = useSignal<Rollout[]>([]);
  const message = useSignal("");
  const isNear = useIsNear("tokens");
  useEffect(() => {
    let isCurrent = true;
    message.value = "";
    if (!step) return;
    if (!step.files.length) {
      rollouts.value = step.rollouts as unknown as Rollout[];
      return;
    }
    rollouts.value = [];
    if (!isNear) return;
    message.value = "Reading the tokens of this update …";
    loadShards(step.files).then(
      (found) => {
        if (!isCurrent) return;
        rollouts.value = found as Rollout[];
        message.value = "";
      },
      (error: Error) => {
        if (isCurrent) message.value = `${error.message}.`;
      },
    );
    return () => {
      isCurrent = false;
    };
  }, [step, isNear]);
  if (!step) return null;
  const known = rollouts.value.findIndex((rollout) => place !== null && rollout.row === place.rollout);
  const rollout = rollouts.value[Math.max(0, known)];
  const go = (patch: Partial<TokenPlace>) =>
    change({
      stage: step.stage,
      step: step.step,
      rollout: rollout?.row ?? 0,
      series: place?.series ?? "",
      ...patch,
    });
  return (
    <Section id="tokens" title="Tokens">
      <p class="muted">{rule}</p>
      <div class="bar">
        <StepChoice steps={steps} step={step} go={go} />
        {rollout ? (
          <label>
            Response
            <select
              id="tokens-rollout"
              value={String(rollout.row)}
              onChange={(event) => go({ rollout: Number(event.currentTarget.value) })}
            >
              {rollouts.value.map((one) => (
                <option value={String(one.row)}>
                  row {one.row}: {one.id}
                  {one.why ? `, ${one.why}` : ""}
                </option>
              ))}
            </select>
          </label>
        ) : null}
      </div>
      <p class="message" role="status">
        {message.value}
      </p>
      {rollout ? <RolloutView key={`${step.stage} ${step.step} ${rollout.row}`} rollout={rollout} wanted={place?.series ?? ""} go={go} /> : null}
      {step.critic ? <CriticPlot critic={step.critic} step={step.step} /> : null}
    </Section>
  );
}

/** Whether the reader has come near a section: its files are read then, and not before. */
function useIsNear(id: string): boolean {
  const isNear = useSignal(false);
  useEffect(() => {
    const section = document.getElementById(id);
    if (!section) return;
    const observer = new IntersectionObserver(
      (changes) => {
        if (!changes.some((change) => change.isIntersecting)) return;
        isNear.value = true;
        observer.disconnect();
      },
      { rootMargin: "300px" },
    );
    observer.observe(section);
    return () => observer.disconnect();
  }, []);
  return isNear.value;
}

function StepChoice({ steps, step, go }: { steps: Step[]; step: Step; go: (patch: Partial<TokenPlace>) => void }) {
  const name = (one: Step) => `${one.stage}, update ${one.step}`;
  return (
    <label>
      Update
      <select
        id="tokens-step"
        value={String(steps.indexOf(step))}
        onChange={(event) => {
          const chosen = steps[Number(event.currentTarget.value)];
          if (chosen) go({ stage: chosen.stage, step: chosen.step, rollout: 0 });
        }}
      >
        {steps.map((one, i) => (
          <option value={String(i)}>{name(one)}</option>
        ))}
      </select>
    </label>
  );
}

interface ViewProps {
  rollout: Rollout;
  wanted: string;
  go: (patch: Partial<TokenPlace>) => void;
}

function RolloutView({ rollout, wanted, go }: ViewProps) {
  const at = useSignal(0);
  const offered = seriesOf(rollout);
  const series = offered.find(({ key }) => key === wanted) ?? offered[0];
  const values = series ? valuesOf(rollout, series.key) : null;
  if (!series || !values) return <p class="muted">This update recorded no numbers by token.</p>;
  return (
    <div class="card rollout">
      <div class="turn">
        <div class="role">prompt</div>
        <LongText text={rollout.prompt} language="" limit={600} />
      </div>
      <p class="small">
        {counted(rollout.pieces.length, "token")}, {rollout.stop === "length" ? "truncated" : "ended"}
        {rollout.score === null ? "" : `, reward ${number(rollout.score, 3, true)}`}
      </p>
      <div class="bar series" role="group" aria-label="Colour tokens by">
        {offered.map((one) => (
          <button
            type="button"
            aria-pressed={one.key === series.key}
            title={one.meaning}
            data-series={one.key}
            onClick={() => go({ series: one.key })}
          >
            {one.title}
          </button>
        ))}
      </div>
      <p class="small">{series.meaning}</p>
      <Heatmap pieces={rollout.pieces} series={series} values={values} clipped={valuesOf(rollout, "clipped")} at={at} />
      <Numbers rollout={rollout} place={Math.min(at.value, rollout.pieces.length - 1)} />
    </div>
  );
}

/** Every number of the chosen token. */
function Numbers({ rollout, place }: { rollout: Rollout; place: number }) {
  const isOutside = valuesOf(rollout, "sampled")?.[place] === 0;
  return (
    <div class="token-numbers" role="status">
      <p>
        <span class="muted">token {place}</span> <code>{JSON.stringify(rollout.pieces[place] ?? "")}</code>
        {isOutside ? <span class="muted"> not in the policy loss</span> : null}
      </p>
      <dl>
        {SERIES.map(({ key, title }) => {
          const values = valuesOf(rollout, key);
          return values ? (
            <div data-series={key}>
              <dt>{title}</dt>
              <dd>{minus(traceNumber(values[place] ?? null))}</dd>
            </div>
          ) : null;
        })}
        <Ratio rollout={rollout} place={place} />
      </dl>
    </div>
  );
}

function Ratio({ rollout, place }: { rollout: Rollout; place: number }) {
  const log = valuesOf(rollout, "log_ratio")?.[place];
  if (log === null || log === undefined) return null;
  return (
    <div data-series="ratio">
      <dt>ratio</dt>
      <dd>{traceNumber(Math.exp(log))}</dd>
    </div>
  );
}
