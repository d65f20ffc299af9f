// Facets with counts of the filtered examples; values of interest with the interval of their share.

import { percent } from "../page/numbers";
import { Dot, tint } from "../page/Policy";
import type { Explorer } from "./explorer";
import type { Facet, FacetValue } from "./facets";
import { VisibleText } from "../page/VisibleText";
import { RangeFilters } from "./RangeFilters";
import { flagName } from "./rows";
import { wilson } from "./wilson";

/** Facets of values that are given, not measured: their shares need no interval. */
const isGiven = (key: string) => key === "domain" || key === "language" || key.startsWith("extra.");
/** Values shown before the button. */
const FEW = 8;

export function FacetPanel({ explorer }: { explorer: Explorer }) {
  return (
    <div class="facets">
      {explorer.index.facets.map((facet) =>
        facet.key === "flag" ? (
          <FlagFacet key={facet.key} explorer={explorer} facet={facet} />
        ) : (
          <ListFacet key={facet.key} explorer={explorer} facet={facet} />
        ),
      )}
      <RangeFilters explorer={explorer} />
    </div>
  );
}

interface Props {
  explorer: Explorer;
  facet: Facet;
}

/** Write a share and its interval. */
function shareWords(count: number, total: number): string {
  const { value, low, high } = wilson(count, total);
  return `${percent(value)} (${percent(low)} to ${percent(high)})`;
}

function ListFacet({ explorer, facet }: Props) {
  const chosen = explorer.state.value.filter.facets[facet.key] ?? [];
  const counts = explorer.found.value.counts[facet.key];
  const total = explorer.found.value.totals[facet.key] ?? 0;
  const item = (value: FacetValue, place: number) => {
    const count = counts?.[place] ?? 0;
    const share = wilson(count, total);
    return (
      <li key={value.value}>
        <label title={value.meaning || undefined}>
          <input
            type="checkbox"
            checked={chosen.includes(value.value)}
            onChange={() => explorer.toggle(facet.key, value.value)}
          />
          <span class="value">
            {value.policy === null ? null : <Dot index={value.policy} />}
            <VisibleText text={value.label} />
          </span>
          <span class="count">{count.toLocaleString("en")}</span>
          {isGiven(facet.key) || total === 0 ? null : (
            <>
              <ShareBar {...share} kind={value.policy === null ? "" : tint(value.policy)} />
              <span class="small">{shareWords(count, total)}</span>
            </>
          )}
        </label>
      </li>
    );
  };
  const items = facet.values.map(item);
  return (
    <details open class="facet" data-facet={facet.key}>
      <summary>
        <VisibleText text={facet.title} />
        {chosen.length ? <span class="muted"> · {chosen.length} chosen</span> : null}
      </summary>
      <ul>{items.slice(0, FEW)}</ul>
      {items.length > FEW ? (
        <details>
          <summary class="small">{items.length - FEW} more</summary>
          <ul>{items.slice(FEW)}</ul>
        </details>
      ) : null}
      {facet.multiple ? <EveryChoice explorer={explorer} facet={facet} /> : null}
    </details>
  );
}

function ShareBar({ value, low, high, kind }: { value: number; low: number; high: number; kind: string }) {
  const at = (share: number) => 1 + 98 * share;
  return (
    <svg class={`share ${kind}`} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <line class="axis" x1={1} x2={99} y1={3} y2={3} />
      <line class="range" x1={at(low)} x2={at(high)} y1={3} y2={3} />
      <line class="middle" x1={at(value)} x2={at(value)} y1={0} y2={6} />
    </svg>
  );
}

/** Whether an example needs every chosen value. */
function EveryChoice({ explorer, facet }: Props) {
  const { all, facets } = explorer.state.value.filter;
  if ((facets[facet.key] ?? []).length < 2) return null;
  const isEvery = all.includes(facet.key);
  const change = () =>
    explorer.changeFilter({ all: isEvery ? all.filter((key) => key !== facet.key) : [...all, facet.key] });
  return (
    <label class="every">
      <input type="checkbox" checked={isEvery} onChange={change} /> every chosen one at once
    </label>
  );
}

/** Flags by policy: one row per flag, one column per policy. */
function FlagFacet({ explorer, facet }: Props) {
  const { policies, flags } = explorer.corpus;
  const chosen = explorer.state.value.filter.facets.flag ?? [];
  const counts = explorer.found.value.counts.flag;
  const total = explorer.found.value.totals.flag ?? 0;
  const names = facet.values.filter((value) => value.policy === null).map((value) => value.value);
  const place = new Map(facet.values.map((value, i) => [value.value, i]));
  const cell = (value: string, words: string, kind: string) => {
    const count = counts?.[place.get(value) ?? -1] ?? 0;
    const isChosen = chosen.includes(value);
    return (
      <button
        type="button"
        class={kind}
        aria-pressed={isChosen}
        data-value={value}
        disabled={count === 0 && !isChosen}
        title={`${words}: ${count} of ${total}, ${shareWords(count, total)}`}
        aria-label={`${words}: ${count} of ${total}, ${shareWords(count, total)}`}
        onClick={() => explorer.toggle("flag", value)}
      >
        {count === 0 ? "·" : count.toLocaleString("en")}
      </button>
    );
  };
  const about = chosen.map((value) => facet.values[place.get(value) ?? -1]).filter((value) => value !== undefined);
  return (
    <details open class="facet" data-facet="flag">
      <summary>
        Flags{chosen.length ? <span class="muted"> · {chosen.length} chosen</span> : null}
      </summary>
      <div class="scroll" role="region" tabIndex={0} aria-label="Flags by policy">
        <table class="matrix">
          <thead>
            <tr>
              <th scope="col">flag</th>
              <th scope="col" title="in the response of any policy">
                any
              </th>
              {policies.map((policy, i) => (
                <th scope="col" title={policy}>
                  <Dot index={i} />
                  <span class="hidden">{policy}</span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name}>
                <th scope="row" title={flags[name]}>
                  {flagName(name)}
                </th>
                <td>{cell(name, `${flagName(name)}, any policy`, "")}</td>
                {policies.map((policy, i) => (
                  <td>{cell(`${name}@${policy}`, `${flagName(name)}, ${policy}`, tint(i))}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {about.map((value) => (
        <p class="small" key={value.value}>
          <VisibleText text={value.label} />: {shareWords(counts?.[place.get(value.value) ?? -1] ?? 0, total)}
        </p>
      ))}
      <EveryChoice explorer={explorer} facet={facet} />
    </details>
  );
}
