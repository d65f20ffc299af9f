// The reliability diagram: how often the model is right when it is so sure.
import type { Card } from "../contract";
import { number, percent } from "../page/numbers";

type Calibration = NonNullable<Card["calibration"]>;

/** As wide as its card, so that its text has the size of the other charts. */
const WIDTH = 350;
const HEIGHT = 290;
const LEFT = 44;
const BOTTOM = 36;
const TOP = 10;
/** Room for half of the last label of the axis. */
const RIGHT = 20;
/** The probability that a model gives to the response that it prefers is at least this. */
const LEAST = 0.5;

export function Reliability({ calibration }: { calibration: Calibration }) {
  const { bins } = calibration;
  const lowest = Math.min(LEAST, ...bins.map(({ low }) => Math.floor(low * 10) / 10));
  const x = (value: number) => LEFT + ((value - LEAST) / (1 - LEAST)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - ((value - lowest) / (1 - lowest)) * (HEIGHT - BOTTOM - TOP);
  const rows = Array.from({ length: Math.round((1 - lowest) * 10) + 1 }, (_, i) => lowest + i / 10);
  const largest = Math.max(...bins.map(({ pairs }) => pairs));
  const words = bins
    .map((bin) => `sure at ${percent(bin.confidence, 0)}: right ${percent(bin.accuracy, 0)} of ${bin.pairs}`)
    .join("; ");
  return (
    <figure class="card reliability">
      <h4>How sure it is, and how often it is right</h4>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Reliability diagram. ${words}.`}>
        {rows.map((value) => (
          <g>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} />
            <text x={LEFT - 6} y={y(value) + 4} text-anchor="end">
              {percent(value, 0)}
            </text>
          </g>
        ))}
        {[0.5, 0.6, 0.7, 0.8, 0.9, 1].map((value) => (
          <text x={x(value)} y={HEIGHT - BOTTOM + 15} text-anchor="middle">
            {percent(value, 0)}
          </text>
        ))}
        <line class="mark" x1={x(LEAST)} y1={y(LEAST)} x2={x(1)} y2={y(1)} />
        {bins.map((bin) => (
          <g class="p1">
            <title>
              {`Sure at ${percent(bin.confidence)}: right ${percent(bin.accuracy)} (${percent(bin.low)} to ${percent(bin.high)}), ${bin.pairs} pairs`}
            </title>
            <line class="range" x1={x(bin.confidence)} x2={x(bin.confidence)} y1={y(bin.low)} y2={y(bin.high)} />
            <circle class="point" cx={x(bin.confidence)} cy={y(bin.accuracy)} r={2.5 + 3 * Math.sqrt(bin.pairs / largest)} />
          </g>
        ))}
        <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 4} text-anchor="middle">
          probability it gives to its preference
        </text>
      </svg>
      <figcaption>
        Share ranked right against the model's own probability; on the dashed line the two agree. Below it the model is
        too sure. Larger points have more pairs. Mean distance from the line (expected calibration error):{" "}
        {number(100 * calibration.error, 1)} points; by chance up to {number(100 * calibration.by_chance, 1)}.
        {calibration.temperature === null
          ? ""
          : ` Dividing rewards by ${number(calibration.temperature, 2)} fits the probabilities best.`}
      </figcaption>
    </figure>
  );
}
