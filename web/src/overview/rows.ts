// The rows behind a number: filters of the responses section, by the names that its facets have.
import type { PageData } from "../contract";
import { showRows } from "../page/state";

export type Rows = (() => void) | undefined;
type Examples = PageData["examples"];

/** The prompts whose one best response is of a policy. */
export function winnerRows(examples: Examples, policy: string): Rows {
  if (!examples.some((example) => example.winner === policy)) return undefined;
  return () => showRows({ winner: [`=${policy}`] });
}

/** The prompts on which a policy's response has a flag; nothing if none has. */
export function flagRows(examples: Examples, flag: string, policy: string): Rows {
  const found = examples.some((example) =>
    example.responses.some((response) => response.policy === policy && response.flags.includes(flag)),
  );
  return found ? () => showRows({ flag: [`${flag}@${policy}`] }) : undefined;
}

/** The prompts that the right policy of a pair wins by reward, that tie, and that it loses. */
export function pairRows(left: string, right: string): { wins: () => void; ties: () => void; losses: () => void } {
  const show = (outcome: string) => () => showRows({ [`pair@${left}>${right}`]: [outcome] });
  return { wins: show("win"), ties: show("tie"), losses: show("loss") };
}
