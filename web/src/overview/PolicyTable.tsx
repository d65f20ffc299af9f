// The table of all policies on the same prompts.
import type { PageData, Policy, Summary } from "../contract";
import { Interval } from "../page/Interval";
import { scaleOf, type IntervalLike } from "../page/intervals";
import { number, percent, plain } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { ItemTable, type Column } from "../page/Table";
import { flagRows, winnerRows, type Rows } from "./rows";

/** What to call the first scorer's score: its name, or "learned reward" for a reward model. */
export function rewardName(summary: Summary): string {
  return !summary.scorer || summary.scorer === "reward_model" ? "learned reward" : summary.scorer;
}

export function PolicyTable({ summary, examples }: { summary: Summary; examples: PageData["examples"] }) {
  const { table, ties, judges, policies } = summary;
  const measure = (
    name: string,
    show: (value: number) => string,
    pick: (row: Policy) => IntervalLike | null | undefined,
    rows?: (row: Policy) => Rows,
  ): Column<Policy> => {
    const scale = scaleOf(table.map(pick), 0);
    return {
      name,
      cell: (row) => (
        <Interval interval={pick(row)} scale={scale} kind={tint(table.indexOf(row))} show={show} rows={rows?.(row)} />
      ),
    };
  };
  const flagged = (flag: string) => (row: Policy) => flagRows(examples, flag, row.policy);
  const columns = [
    measure("best response", percent, (row) => row.win_rate, (row) => winnerRows(examples, row.policy)),
    measure(rewardName(summary), plain, (row) => row.reward),
    ...judges.map((judge) => measure(judge, plain, (row) => row.judges[judge])),
    {
      name: `median ${summary.length_unit ?? "tokens"}`,
      numeric: true,
      cell: (row: Policy) => number(row.median_response_tokens, row.median_response_tokens % 1 ? 1 : 0),
    },
    measure("truncated", percent, (row) => row.cap_hit, flagged("cap_hit")),
    measure("empty", percent, (row) => row.empty, flagged("empty")),
    measure("repetitive", percent, (row) => row.repetition, flagged("repetition")),
  ];
  return (
    <>
      <ItemTable
        caption="Every policy on the same prompts, with 95 % intervals"
        items={table}
        columns={columns}
        rowName="policy"
        rowHead={(row) => <PolicyName name={row.policy} policies={policies} />}
      />
      <p class="small">
        No single best response: {ties.count} of {summary.n} ({percent(ties.value)}). Repetitive: more than{" "}
        {percent(summary.repetitive_above, 0)} of the word 4-grams occur earlier in the response.
      </p>
    </>
  );
}
