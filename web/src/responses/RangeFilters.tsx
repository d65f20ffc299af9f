// Limits of measures: reward, margins, length, KL and the rest.

import { useSignal } from "@preact/signals";
import type { Explorer } from "./explorer";
import { INTEREST, extent, type Measure } from "./measures";
import { VisibleText } from "../page/VisibleText";
import { plainNumber } from "./words";

/** Group measures by what they say, for a list of choices. */
export function grouped(measures: readonly Measure[]): [string, Measure[]][] {
  const titles: [string, (family: string) => boolean][] = [
    ["Rewards and scores", (family) => family === "reward" || family.startsWith("score.")],
    ["Differences between policies", (family) => family.startsWith("margin") || family === "spread"],
    ["Length, KL, repetition", (family) => ["length", "kl", "repeated"].includes(family)],
    ["Further columns", () => true],
  ];
  const left = new Set(measures.filter((measure) => measure.key !== INTEREST));
  return titles.flatMap(([title, belongs]): [string, Measure[]][] => {
    const members = [...left].filter((measure) => belongs(measure.family));
    for (const member of members) left.delete(member);
    return members.length ? [[title, members]] : [];
  });
}

export function RangeFilters({ explorer }: { explorer: Explorer }) {
  const added = useSignal<string[]>([]);
  const { ranges } = explorer.state.value.filter;
  const shown = [...new Set([...Object.keys(ranges), ...added.value])];
  const remove = (key: string) => {
    added.value = added.value.filter((one) => one !== key);
    explorer.changeFilter({ ranges: Object.fromEntries(Object.entries(ranges).filter(([name]) => name !== key)) });
  };
  const choices = grouped(explorer.index.measures.filter((measure) => !shown.includes(measure.key)));
  return (
    <details open class="facet" data-facet="ranges">
      <summary>Limits</summary>
      {shown.map((key) => {
        const measure = explorer.measure(key);
        return measure ? <Range key={key} explorer={explorer} measure={measure} remove={() => remove(key)} /> : null;
      })}
      <label>
        <span class="small">Limit a number</span>
        <select
          value=""
          onChange={(event) => {
            if (event.currentTarget.value) added.value = [...added.value, event.currentTarget.value];
          }}
        >
          <option value="">choose …</option>
          {choices.map(([title, measures]) => (
            <optgroup label={title}>
              {measures.map((measure) => (
                <option value={measure.key}>{measure.title}</option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
    </details>
  );
}

function Range({ explorer, measure, remove }: { explorer: Explorer; measure: Measure; remove: () => void }) {
  const { ranges } = explorer.state.value.filter;
  const [low, high] = ranges[measure.key] ?? [null, null];
  const [least, most] = extent(measure.values) ?? [0, 0];
  const change = (side: 0 | 1, text: string) => {
    const value = text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text);
    const next: [number | null, number | null] = side === 0 ? [value, high] : [low, value];
    const others = Object.entries(ranges).filter(([key]) => key !== measure.key);
    const isOpen = next[0] === null && next[1] === null;
    explorer.changeFilter({ ranges: Object.fromEntries(isOpen ? others : [...others, [measure.key, next]]) });
  };
  const field = (side: 0 | 1, name: string, value: number | null, placeholder: number) => (
    <input
      type="number"
      step="any"
      aria-label={`${measure.title}, ${name}`}
      placeholder={plainNumber(placeholder)}
      value={value ?? ""}
      onChange={(event) => change(side, event.currentTarget.value)}
    />
  );
  return (
    <div class="limits" data-measure={measure.key}>
      <span class="small">
        <VisibleText text={measure.title} />
      </span>
      <span class="pair">
        {field(0, "at least", low, least)} to {field(1, "at most", high, most)}
        <button type="button" class="plain" aria-label={`Remove the limit of ${measure.title}`} onClick={remove}>
          ✕
        </button>
      </span>
    </div>
  );
}
