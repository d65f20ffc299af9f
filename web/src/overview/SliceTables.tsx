// Every pair of policies by domain, language and the other columns of the prompts.
import { probability } from "../page/numbers";
import { digits } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { differenceColumn, PairTable, winColumns, type TableProps } from "./PairTables";
import { rewardName } from "./PolicyTable";
import { pairRows } from "./rows";

/** The facet of the responses that has the values of a column. */
const facetOf = (column: string) => (column === "domain" || column === "language" ? column : `extra.${column}`);

export function SliceTables({ summary }: TableProps) {
  const names = [...new Set(summary.pairs.flatMap((pair) => pair.slices.map((part) => part.column)))];
  return (
    <>
      {names.map((name) => {
        const rows = summary.pairs.flatMap((pair) =>
          pair.slices.filter((part) => part.column === name).map((part) => ({ pair, part })),
        );
        type Row = (typeof rows)[number];
        const values = new Set(rows.map(({ part }) => part.value));
        const title = name.replaceAll("_", " ");
        return (
          <details class="slices">
            <summary>
              By {title} ({values.size})
            </summary>
            <PairTable
              summary={summary}
              caption={`Every pair of policies by ${title}`}
              items={rows}
              pairOf={(row) => row.pair}
              columns={[
                { name: title, cell: ({ part }) => <VisibleText text={part.value || "(none)"} /> },
                digits("prompts", ({ part }: Row) => String(part.prompts)),
                ...winColumns(summary, (row: Row) => row.part, (row) => row.pair, (row) =>
                  pairRows(row.pair, { [facetOf(name)]: [row.part.value] }),
                ).slice(0, 2),
                differenceColumn(rewardName(summary), rows, (row) => row.part.reward),
                digits("q", ({ part }: Row) => probability(part.q)),
              ]}
            />
          </details>
        );
      })}
    </>
  );
}
