// How responses are shown: compared or not, Markdown or plain text, with or without the policies' names.

import type { DiffUnit } from "./address";
import type { Explorer, Shown } from "./explorer";
import { toggleDiff } from "./keyboard";

export function DiffBar({ explorer, shown }: { explorer: Explorer; shown: Shown[] }) {
  const modes = explorer.modes.value;
  const { diff } = modes;
  const change = (patch: Partial<typeof modes>) => explorer.change({ modes: { ...modes, ...patch } });
  const choice = (label: string, side: "left" | "right") =>
    diff ? (
      <label>
        {label}
        <select value={diff[side]} onChange={(event) => change({ diff: { ...diff, [side]: event.currentTarget.value } })}>
          {shown.map((one) => (
            <option value={one.policy}>{one.name}</option>
          ))}
        </select>
      </label>
    ) : null;
  return (
    <div class="bar modes" role="group" aria-label="How responses are shown">
      <button type="button" aria-pressed={diff !== null} onClick={() => toggleDiff(explorer)}>
        Compare two
      </button>
      {choice("Left", "left")}
      {choice("Right", "right")}
      {diff ? (
        <label>
          By
          <select
            value={diff.unit}
            onChange={(event) => change({ diff: { ...diff, unit: event.currentTarget.value as DiffUnit } })}
          >
            <option value="word">words</option>
            <option value="line">lines</option>
          </select>
        </label>
      ) : (
        <button type="button" aria-pressed={modes.markdown} onClick={() => change({ markdown: !modes.markdown })}>
          Markdown
        </button>
      )}
      <button type="button" aria-pressed={modes.blind} onClick={() => change({ blind: !modes.blind })}>
        Hide names
      </button>
    </div>
  );
}
