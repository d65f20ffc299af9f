// The card of a reward model: how often it is right, how sure it may be, and what fools it.
import type { Card } from "../contract";
import { Interval } from "../page/Interval";
import { effect, scaleOf } from "../page/intervals";
import { number, percent, points, signed } from "../page/numbers";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { Reliability } from "./Reliability";

const SIGNS: Record<Card["status"], [string, string, string]> = {
  good: ["good", "▲", "Good"],
  weak: ["unclear", "●", "Weak"],
  bad: ["bad", "▼", "Bad"],
};

export function RewardCard({ card }: { card: Card }) {
  const [kind, shape, word] = SIGNS[card.status];
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
          <VisibleText text={card.verdict} />
        </p>
        {card.accuracy ? <Accuracy card={card} /> : null}
        {troubles.length ? (
          <ul>
            {troubles.map((trouble) => (
              <li>
                <span class={`tag ${trouble.kind}`}>
                  <span aria-hidden="true">{trouble.sign} </span>
                  {trouble.kind === "bad" ? "Fault" : "Warning"}
                </span>
                <span>
                  <VisibleText text={trouble.text} />
                  {trouble.fix ? (
                    <span class="small">
                      {" "}
                      Fix: <VisibleText text={trouble.fix} />
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
        {card.slices.length ? <Slices card={card} /> : null}
      </div>
      {card.baselines.length ? <Baselines card={card} /> : null}
      {card.probes.length ? <Probes card={card} /> : null}
    </div>
  );
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

function Slices({ card }: { card: Card }) {
  const of = ({ share, low, high }: Card["slices"][number]) => ({ value: share, low, high });
  const scale = scaleOf(card.slices.map(of), 0.5);
  return (
    <ItemTable
      caption="Pairs ranked right, by kind of prompt, with 95 % intervals. The line is guessing."
      items={card.slices}
      rowName="slice"
      rowHead={({ column, value }) => (
        <>
          {column.replaceAll("_", " ")} <VisibleText text={value || "(none)"} />
        </>
      )}
      columns={[
        { name: "ranked right", cell: (slice) => <Interval interval={of(slice)} scale={scale} kind="p1" show={percent} /> },
        { name: "pairs", numeric: true, cell: ({ pairs }) => pairs.toLocaleString("en") },
      ]}
    />
  );
}

function Baselines({ card }: { card: Card }) {
  const of = ({ difference, low, high }: Card["baselines"][number]) => ({ value: difference, low, high });
  const scale = scaleOf(card.baselines.map(of), 0);
  return (
    <ItemTable
      caption="Simple rules on the same pairs, and how much better the model is"
      items={card.baselines}
      rowName="rule"
      rowHead={({ name }) => <VisibleText text={name.replaceAll("_", " ")} />}
      columns={[
        { name: "rule ranks right", numeric: true, cell: ({ share }) => percent(share) },
        { name: "model minus rule", cell: (row) => <Interval interval={of(row)} scale={scale} kind={effect(of(row))} show={points} /> },
      ]}
    />
  );
}

function Probes({ card }: { card: Card }) {
  const of = ({ change, low, high }: Card["probes"][number]) => ({ value: change, low, high });
  const scale = scaleOf(card.probes.map(of), 0);
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
      columns={[
        { name: "change of the reward", cell: (row) => <Interval interval={of(row)} scale={scale} kind={effect(of(row))} show={signed} /> },
        {
          name: "pairs it turns around",
          cell: ({ flips }) =>
            flips ? (
              <>
                <b>{percent(flips.share)}</b>
                <span class="small">
                  {percent(flips.low)} to {percent(flips.high)}
                </span>
              </>
            ) : (
              "–"
            ),
        },
        { name: "pairs", numeric: true, cell: ({ pairs }) => number(pairs, 0) },
      ]}
    />
  );
}
