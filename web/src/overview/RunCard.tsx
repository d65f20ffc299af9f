// What a reader needs to judge the page without its author: when, where, with which version and settings.
import type { PageData } from "../contract";
import { duration } from "../page/numbers";
import { VisibleText } from "../page/VisibleText";

/** A date as UTC, to the minute. */
export function dateText(iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** Fingerprints of models and data that the stages recorded, by name. */
export function hashes(data: PageData): [string, string][] {
  return data.stages.flatMap((stage) => {
    const lineage = stage.facts.lineage;
    if (lineage === null || typeof lineage !== "object") return [];
    return Object.entries(lineage as Record<string, unknown>)
      .filter((one): one is [string, string] => typeof one[1] === "string" && /^[0-9a-f]{12,}$/.test(one[1]))
      .map(([name, value]): [string, string] => [`${stage.title}, ${name.replaceAll("_", " ")}`, value]);
  });
}

export function RunCard({ data }: { data: PageData }) {
  const { made, summary } = data;
  const facts: [string, string | undefined][] = [
    ["Made", made.when && dateText(made.when)],
    ["Finished", made.finished && made.finished !== made.when ? dateText(made.finished) : undefined],
    ["Time of the work", made.duration === undefined ? undefined : duration(made.duration)],
    ["Computed on", made.device],
    ["Hardware", made.hardware],
    ["Harken", made.harken],
    ["Seed", summary ? String(summary.seed) : undefined],
    ["Source", made.path],
    ["Command", made.command],
  ];
  const known = facts.filter((one): one is [string, string] => Boolean(one[1]));
  const settings = (made.settings ?? []).map(([name, value]): [string, string] => [name, value]);
  const prints = hashes(data);
  if (!known.length && !settings.length && !prints.length) return null;
  return (
    <div class="card runcard" role="group" aria-label="How this page was made">
      <h3>How this page was made</h3>
      <Facts facts={known} />
      {settings.length ? (
        <details>
          <summary>Settings of the evaluation</summary>
          <Facts facts={settings} />
        </details>
      ) : null}
      {prints.length ? (
        <details>
          <summary>Fingerprints of models and data</summary>
          <Facts facts={prints} />
        </details>
      ) : null}
    </div>
  );
}

function Facts({ facts }: { facts: readonly [string, string][] }) {
  return (
    <dl>
      {facts.map(([name, value]) => (
        <div>
          <dt>{name}</dt>
          <dd>
            <VisibleText text={value} />
          </dd>
        </div>
      ))}
    </dl>
  );
}
