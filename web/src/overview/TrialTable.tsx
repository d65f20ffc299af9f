// The runs of a sweep or of a comparison of runs, one row each.
import type { Trials } from "../contract";
import { percent, short } from "../page/numbers";
import { Section } from "../page/Section";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";

function cellText(value: string | number | null | undefined, format: Trials["columns"][number]["format"]): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  return format === "share" ? percent(value) : short(value);
}

export function TrialTable({ trials }: { trials: Trials }) {
  return (
    <Section id="trials" title={trials.title}>
      {trials.caption ? (
        <p class="muted">
          <VisibleText text={trials.caption} />
        </p>
      ) : null}
      <ItemTable
        caption="One row per run; a name leads to its curves"
        items={trials.rows}
        rowName="run"
        rowHead={(row) =>
          row.stage === null ? (
            <VisibleText text={row.name} />
          ) : (
            <a href={`#stage-${row.stage}`}>
              <VisibleText text={row.name} />
            </a>
          )
        }
        columns={trials.columns.map(({ name, unit, format }, i) => ({
          name: unit ? `${name}, ${unit}` : name,
          numeric: format !== "text",
          cell: (row: Trials["rows"][number]) => <VisibleText text={cellText(row.cells[i], format)} />,
        }))}
      />
    </Section>
  );
}
