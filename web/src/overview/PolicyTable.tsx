// The table of all policies on the same prompts.
import type { PageData, Policy, Summary } from "../contract";
import { intervalColumn } from "../page/Interval";
import { scaleOf, shareScale, type IntervalLike } from "../page/intervals";
import { number, percent, plain } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { digits, ItemTable } from "../page/Table";
import { flagRows, winnerRows, type Rows } from "./rows";

/** What to call the first scorer's score: its name, or "learned reward" for a reward model. */
export function rewardName(summary: Summary): string {
  return !summary.scorer || summary.scorer === "reward_model" ? "learned reward" : summary.scorer;
}

export function PolicyTable({ summary, examples }: { summary: Summary; examples: PageData["examples"] }) {
  const { table, ties, judges, policies } = summary;
  type Pick = (row: Policy) => IntervalLike | null | undefined;
  const kind = (row: Policy) => tint(table.indexOf(row));
  const score = (name: string, pick: Pick) =>
    intervalColumn({ name, scale: scaleOf(table.map(pick), 0), show: plain, pick, kind });
  const share = (name: string, pick: Pick, rows: (row: Policy) => Rows) =>
    intervalColumn({ name, scale: shareScale(), show: percent, pick, kind, rows });
  const flagged = (flag: string) => (row: Policy) => flagRows(examples, flag, row.policy);
  const columns = [
    share("best response", (row) => row.win_rate, (row) => winnerRows(examples, row.policy)),
    score(rewardName(summary), (row) => row.reward),
    ...judges.map((judge) => score(judge, (row) => row.judges[judge])),
    digits(`median ${summary.length_unit ?? "tokens"}`, (row: Policy) =>
      number(row.median_response_tokens, row.median_response_tokens % 1 ? 1 : 0),
    ),
    share("truncated", (row) => row.cap_hit, flagged("cap_hit")),
    share("empty", (row) => row.empty, flagged("empty")),
    share("repetitive", (row) => row.repetition, flagged("repetition")),
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
