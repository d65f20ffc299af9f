// Draw a random sample of what was found; the seed repeats it.

import { useSignal } from "@preact/signals";
import type { Explorer } from "./explorer";

export function SampleBar({ explorer }: { explorer: Explorer }) {
  const { sample } = explorer.state.value.filter;
  const size = useSignal(20);
  const seed = useSignal(0);
  const shown = sample ?? { size: size.value, seed: seed.value };
  const change = (patch: Partial<typeof shown>) => {
    const next = { ...shown, ...patch };
    size.value = next.size;
    seed.value = next.seed;
    if (sample) explorer.changeFilter({ sample: next });
  };
  const whole = (text: string, least: number) => Math.min(0xffffffff, Math.max(least, Math.floor(Number(text) || 0)));
  return (
    <div class="bar sample" role="group" aria-label="Random sample">
      <button
        type="button"
        aria-pressed={sample !== null}
        title="Examples drawn at random show more of the truth than examples that were picked"
        onClick={() => explorer.changeFilter({ sample: sample ? null : shown })}
      >
        Random sample
      </button>
      <label>
        of
        <input type="number" min={1} value={shown.size} onChange={(event) => change({ size: whole(event.currentTarget.value, 1) })} />
      </label>
      <label>
        seed
        <input type="number" min={0} value={shown.seed} onChange={(event) => change({ seed: whole(event.currentTarget.value, 0) })} />
      </label>
    </div>
  );
}
