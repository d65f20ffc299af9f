// The card of a reward model: how often it is right, how sure it may be, and what fools it.
import { useSignal } from "@preact/signals";
import type { Card } from "../contract";
import { intervalColumn, Value } from "../page/Interval";
import { effect, scaleOf, shareScale } from "../page/intervals";
import { minus, number, percent, points, signed, typeset } from "../page/numbers";
import { digits, ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { CardRows, type Chosen } from "./CardRows";
import { Reliability } from "./Reliability";

const SIGNS: Record<Card["status"], [string, string, string]> = {
  good: ["good", "▲", "Good"],
  weak: ["unclear", "●", "Weak"],
  bad: ["bad", "▼", "Bad"],
};

type Show = (chosen: Chosen) => void;

export function RewardCard({ card }: { card: Card }) {
  const chosen = useSignal<Chosen | null>(null);
  const show: Show = (next) => {
    chosen.value = next;
  };
  const [kind, shape, word] = SIGNS[card.status];
  const [opening, rest] = sentences(card.verdict);
  const troubles = [
    ...card.faults.map(({ sentence, fix }) => ({ text: sentence, fix, kind: "bad", sign: "■" })),
    ...card.warnings.map(({ what, fix }) => ({ text: what, fix, kind: "unclear", sign: "▲" })),
  ];
  return (
    <div class="rewardcard">
      <div class={`card verdict ${kind}`}>
        <span class={`tag ${kind}`}>
          <span aria-hidden="true">{shape} </span>
          {word}
        </span>
        <p>
          <VisibleText text={typeset(opening)} />
        </p>
        {card.accuracy ? <Accuracy card={card} /> : null}
        {rest ? (
          <div class="rest">
            <VisibleText text={typeset(rest)} />
          </div>
        ) : null}
        {troubles.length ? (
          <ul>
            {troubles.map((trouble) => (
              <li>
                <span class={`tag ${trouble.kind}`}>
                  <span aria-hidden="true">{trouble.sign} </span>
                  {trouble.kind === "bad" ? "Fault" : "Warning"}
                </span>
                <span>
                  <VisibleText text={sentence(trouble.text)} />
                  {trouble.fix ? (
                    <span class="small fix">
                      Fix: <VisibleText text={typeset(trouble.fix)} />
                    </span>
                  ) : null}
                </span>
              </li>
            ))}
          </ul>
        ) : null}
      </div>
      <div class="cardgrid">
        {card.calibration ? <Reliability calibration={card.calibration} /> : null}
        {card.slices.length ? <Slices card={card} show={show} /> : null}
      </div>
      {card.raters?.length ? <Raters raters={card.raters} /> : null}
      {card.baselines.length ? <Baselines card={card} /> : null}
      {card.probes.length ? <Probes card={card} show={show} /> : null}
      {chosen.value ? (
        <CardRows
          chosen={chosen.value}
          rule={card.rule ?? ""}
          close={() => {
            chosen.value = null;
          }}
        />
      ) : null}
    </div>
  );
}

/** The first sentence of a text, and the others. */
function sentences(text: string): [string, string] {
  const end = text.search(/[.!?]\s/) + 1;
  return end ? [text.slice(0, end), text.slice(end + 1)] : [text, ""];
}

/** A warning as a sentence of its own: a capital at its start, unless it begins with a name. */
function sentence(text: string): string {
  const opened = /^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return typeset(/[.!?]$/.test(opened) ? opened : `${opened}.`);
}

function Accuracy({ card }: { card: Card }) {
  const found = card.accuracy!;
  return (
    <p class="accuracy">
      <b>{percent(found.share)}</b> of {found.pairs.toLocaleString("en")} held-out pairs ranked right{" "}
      <span class="small">
        (95 % interval {percent(found.low)} to {percent(found.high)}; guessing: 50 %)
      </span>
    </p>
  );
}

/** The slices column by column; ranges of numbers from low to high. */
function inOrder(slices: Card["slices"]): Card["slices"] {
  const columns = [...new Set(slices.map(({ column }) => column))];
  return columns.flatMap((name) => {
    const own = slices.filter(({ column }) => column === name);
    const start = ({ value }: Card["slices"][number]) => Number.parseFloat(value);
    return own.some((slice) => Number.isNaN(start(slice))) ? own : own.sort((a, b) => start(a) - start(b));
  });
}

function Slices({ card, show }: { card: Card; show: Show }) {
  const of = ({ share, low, high }: Card["slices"][number]) => ({ value: share, low, high });
  const behind = ({ column, value, pairs }: Card["slices"][number]) => {
    const rows = (card.rows ?? []).filter((row) => row.slices[column] === value);
    return rows.length ? () => show({ title: `${column}: ${value || "(none)"}`, pairs, rows }) : undefined;
  };
  // A slice of all pairs is the accuracy again.
  const parts = inOrder(card.slices.filter(({ pairs }) => pairs !== card.accuracy?.pairs));
  if (!parts.length) return null;
  return (
    <ItemTable
      caption="Pairs ranked right, by kind of prompt, with 95 % intervals. The line is guessing."
      items={parts}
      rowName="slice"
      kind="roomy"
      rowHead={({ column, value }) => (
        <>
          <span class="of">{column.replaceAll("_", " ")}</span> <VisibleText text={minus(value || "(none)")} />
        </>
      )}
      columns={[
        intervalColumn({ name: "ranked right", scale: shareScale(0.5), show: percent, pick: of, kind: () => "p1", rows: behind }),
        digits("pairs", ({ pairs }: Card["slices"][number]) => pairs.toLocaleString("en")),
      ]}
    />
  );
}

function Raters({ raters }: { raters: NonNullable<Card["raters"]> }) {
  type Rater = (typeof raters)[number];
  const column = (name: string, pick: (row: Rater) => Rater["others"]) =>
    intervalColumn({
      name,
      scale: shareScale(0.5),
      show: percent,
      pick: (row: Rater) => {
        const found = pick(row);
        return found && { value: found.share, low: found.low, high: found.high };
      },
      kind: () => "p1",
    });
  return (
    <ItemTable
      caption="By rater: how often the model, and the majority of the other raters, agree with the rater's own votes"
      items={raters}
      rowName="rater"
      rowHead={({ rater }) => <VisibleText text={rater} />}
      columns={[
        column("model agrees", ({ model }) => model),
        digits("votes", ({ model }: Rater) => model.pairs.toLocaleString("en")),
        column("other raters agree", ({ others }) => others),
        digits("shared votes", ({ others }: Rater) => (others?.pairs ?? 0).toLocaleString("en")),
      ]}
      kind="roomy"
    />
  );
}

function Baselines({ card }: { card: Card }) {
  const of = ({ difference, ...range }: Card["baselines"][number]) => ({ ...range, value: difference });
  const scale = scaleOf(card.baselines.map(of), 0);
  return (
    <ItemTable
      caption="Simple rules on the same pairs, and how much better the model is"
      items={card.baselines}
      rowName="rule"
      rowHead={({ name }) => <VisibleText text={name.replaceAll("_", " ")} />}
      kind="roomy"
      columns={[
        digits("rule ranks right", ({ share }: Card["baselines"][number]) => percent(share)),
        intervalColumn({ name: "model minus rule", scale, show: points, pick: of, kind: (row) => effect(of(row)) }),
      ]}
    />
  );
}

function Probes({ card, show }: { card: Card; show: Show }) {
  const of = ({ change, ...range }: Card["probes"][number]) => ({ ...range, value: change });
  const scale = scaleOf(card.probes.map(of), 0);
  const behind = (edit: string, pairs: number) => {
    const rows = (card.rows ?? []).filter((row) => row.edits[edit] && row.margin !== null && row.margin > 0);
    const order = [...rows].sort((a, b) => Number(b.edits[edit].wins) - Number(a.edits[edit].wins));
    return rows.length ? () => show({ title: `edit: ${edit.replaceAll("_", " ")}`, pairs, rows: order, edit }) : undefined;
  };
  return (
    <ItemTable
      caption="Edits that add no quality: change of the reward in standard deviations. Above 0, the edit is rewarded."
      items={card.probes}
      rowName="edit"
      rowHead={({ name, description }) => (
        <>
          <VisibleText text={name.replaceAll("_", " ")} />
          <span class="small describe">
            <VisibleText text={description} />
          </span>
        </>
      )}
      kind="roomy"
      columns={[
        intervalColumn({ name: "change of the reward", scale, show: signed, pick: of, kind: (row) => effect(of(row)) }),
        {
          name: "pairs it turns around",
          cell: ({ name, flips }) =>
            flips ? (
              <>
                <Value rows={behind(name, flips.pairs)}>{percent(flips.share)}</Value>
                <span class="small">
                  {percent(flips.low)} to {percent(flips.high)}
                </span>
              </>
            ) : (
              "–"
            ),
        },
        digits("pairs", ({ pairs }: Card["probes"][number]) => number(pairs, 0)),
      ]}
    />
  );
}
