// One prompt while a policy trained: a slider over the checkpoints.

import { useSignal } from "@preact/signals";
import { counted, number } from "../page/numbers";
import { linePath, zeroLine } from "../tokens/series";
import { LongText } from "./LongText";
import { VisibleText } from "../page/VisibleText";

export interface Checkpoint {
  id: string;
  stage: string;
  prompt: string;
  points: { step: number; text: string; reward: number | null; tokens?: number | null; stop?: string | null }[];
}

const [WIDTH, HEIGHT] = [600, 40];

export function Checkpoints({ checkpoints, current }: { checkpoints: Checkpoint[]; current: string | null }) {
  const chosen = useSignal<number | null>(null);
  const place = useSignal<number | null>(null);
  const own = checkpoints.findIndex((one) => one.id === current);
  const at = chosen.value ?? Math.max(0, own);
  const one = checkpoints[at];
  if (!one || !one.points.length) return null;
  const last = one.points.length - 1;
  const step = Math.min(place.value ?? last, last);
  const point = one.points[step];
  if (!point) return null;
  const rewards = one.points.map(({ reward }) => reward);
  const words = `update ${point.step}, ${step + 1} of ${last + 1}${point.reward === null ? "" : `, reward ${number(point.reward, 3, true)}`}`;
  return (
    <div class="card checkpoints" id="checkpoints">
      <h3>The same prompt while the policy trained</h3>
      <label>
        Prompt
        <select
          value={String(at)}
          onChange={(event) => {
            chosen.value = Number(event.currentTarget.value);
          }}
        >
          {checkpoints.map((checkpoint, i) => (
            <option value={String(i)}>
              {checkpoint.stage} · {checkpoint.id}
            </option>
          ))}
        </select>
      </label>
      <p class="turn">
        <VisibleText text={one.prompt} />
      </p>
      <svg class="spark" viewBox={`0 -3 ${WIDTH} ${HEIGHT + 6}`} preserveAspectRatio="none" aria-hidden="true">
        <line class="zero" x1={0} x2={WIDTH} y1={zeroLine(rewards, HEIGHT)} y2={zeroLine(rewards, HEIGHT)} />
        <path class="curve" d={linePath(rewards, WIDTH, HEIGHT)} />
        <line class="cursor" x1={(step / Math.max(1, last)) * WIDTH} x2={(step / Math.max(1, last)) * WIDTH} y1={-3} y2={HEIGHT + 3} />
      </svg>
      <label>
        <span class="hidden">Checkpoint</span>
        <input
          type="range"
          min={0}
          max={last}
          step={1}
          value={step}
          aria-valuetext={words}
          onInput={(event) => {
            place.value = Number(event.currentTarget.value);
          }}
        />
      </label>
      <p class="small" role="status">
        {words}
        {point.tokens === null || point.tokens === undefined ? "" : `, ${counted(point.tokens, "token")}`}
        {point.stop === "length" ? ", truncated" : ""}
      </p>
      <LongText text={point.text} language="" limit={4000} />
    </div>
  );
}
