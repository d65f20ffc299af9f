// The rows behind a number: filters of the responses section, by the names that its facets have.
import type { Figure, PageData } from "../contract";
import { showRows, type Filter } from "../page/state";

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

/** The prompts that the right policy of a pair wins by reward, that tie, and that it loses; within other facets. */
export function pairRows({ left, right }: { left: string; right: string }, within: Filter = {}) {
  const show = (outcome: string) => () => showRows({ ...within, [`pair@${left}>${right}`]: [outcome] });
  return { wins: show("win"), ties: show("tie"), losses: show("loss") };
}

/** The rows behind one of the page's large numbers; undefined where it names none. */
export function figureRows(filter: Figure["filter"], pairs: readonly { left: string; right: string }[]): Rows {
  if (!filter) return undefined;
  const facets: Filter = {};
  const values: Record<string, string> = {};
  const { policy, flag, better, than, scorer, domain } = filter;
  if (flag) facets.flag = [policy ? `${flag}@${policy}` : flag];
  if (domain) facets.domain = [domain];
  if (better && than) {
    const forward = pairs.some(({ left, right }) => left === than && right === better);
    const name = forward ? `${than}>${better}` : `${better}>${than}`;
    // There is no facet by a further scorer; its differences are an order.
    if (scorer) values.order = `margin.${scorer}@${name},${forward ? "down" : "up"}`;
    else facets[`pair@${name}`] = [forward ? "win" : "loss"];
  }
  return Object.keys(facets).length + Object.keys(values).length ? () => showRows(facets, values) : undefined;
}
