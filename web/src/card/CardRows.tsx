// The pairs behind a number of the card, those with the lowest margin first.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Card } from "../contract";
import { counted, number } from "../page/numbers";
import { VisibleText } from "../page/VisibleText";

export type CardRow = NonNullable<Card["rows"]>[number];

export interface Chosen {
  /** What the number counts, in words. */
  title: string;
  /** Pairs that the number counts. */
  pairs: number;
  rows: readonly CardRow[];
  /** The edit that the number is about. */
  edit?: string;
}

const SHOWN = 10;

export function CardRows({ chosen, rule, close }: { chosen: Chosen; rule: string; close: () => void }) {
  const limit = useSignal(SHOWN);
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    limit.value = SHOWN;
    host.current?.focus();
  }, [chosen]);
  const { title, rows, pairs, edit } = chosen;
  return (
    <div class="card cardrows" ref={host} tabIndex={-1} role="region" aria-label={`Pairs behind ${title}`}>
      <div class="bar">
        <h4>
          <VisibleText text={title} />
        </h4>
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
      <p class="small">
        {rows.length < pairs ? `${rows.length} of ${counted(pairs, "pair")}` : counted(pairs, "pair")}; {edit ? "those that the edit wins come" : "the lowest margin comes"} first. The card keeps: <VisibleText text={rule} />
      </p>
      <ol>
        {rows.slice(0, limit.value).map((row) => (
          <Pair row={row} edit={edit} />
        ))}
      </ol>
      {rows.length > limit.value ? (
        <button
          type="button"
          onClick={() => {
            limit.value += SHOWN;
          }}
        >
          Show {Math.min(SHOWN, rows.length - limit.value)} more
        </button>
      ) : null}
    </div>
  );
}

function Pair({ row, edit }: { row: CardRow; edit?: string }) {
  const [high, low] = row.rewards;
  const effect = edit ? row.edits[edit] : undefined;
  const isWrong = row.margin !== null && row.margin <= 0;
  return (
    <li>
      <p class="small">
        <span class={`tag ${isWrong ? "bad" : row.margin === null ? "" : "good"}`}>
          {isWrong ? "▼ ranked wrong" : row.margin === null ? "● tie" : "▲ ranked right"}
        </span>{" "}
        {row.margin === null ? "" : `margin ${number(row.margin, 3, true)} · `}
        <VisibleText text={row.id} />
        {effect ? ` · the edit moves the reward by ${number(effect.change, 2, true)} sd${effect.wins ? " and wins the pair" : ""}` : ""}
      </p>
      <p class="asked" dir="auto">
        <VisibleText text={row.prompt} />
      </p>
      <div class="answers">
        <Side name="preferred" reward={high} text={row.preferred} kind="p1" />
        <Side name={row.margin === null ? "equal" : "other"} reward={low} text={row.other} kind="p0" />
      </div>
    </li>
  );
}

function Side({ name, reward, text, kind }: { name: string; reward: number; text: string; kind: string }) {
  return (
    <div class={`answer ${kind}`}>
      <p class="who">
        {name} <span class="small">reward {number(reward, 3, true)}</span>
      </p>
      <p class="said" dir="auto">
        {text.trim() ? <VisibleText text={text} /> : <span class="muted">(empty)</span>}
      </p>
    </div>
  );
}
