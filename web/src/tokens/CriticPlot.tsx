// Values of the critic against the returns that followed, over all tokens of an update.
import type { PageData } from "../contract";
import { roundAxis } from "../page/intervals";
import { counted, number } from "../page/numbers";

type Critic = NonNullable<PageData["tokens"]["steps"][number]["critic"]>;

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [420, 260, 46, 36, 10, 12];

export function CriticPlot({ critic, step }: { critic: Critic; step: number }) {
  const { bins } = critic;
  const all = bins.flatMap((bin) => [bin.value, bin.return, bin.low, bin.high]);
  const { low, high, step: size } = roundAxis(Math.min(...all), Math.max(...all), 0);
  const span = high - low;
  const x = (value: number) => LEFT + ((value - low) / span) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - ((value - low) / span) * (HEIGHT - BOTTOM - TOP);
  const ticks = Array.from({ length: Math.round(span / size) + 1 }, (_, i) => Number((low + i * size).toPrecision(12)));
  const places = Math.max(0, -Math.floor(Math.log10(size) + 1e-9));
  const ends = [bins[0], bins[bins.length - 1]]
    .map((bin) => `value ${number(bin.value, 2, true)}: return ${number(bin.return, 2, true)}`)
    .join("; ");
  return (
    <figure class="card reliability critic">
      <h4>Critic: value and return, update {step}</h4>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Returns by value. Lowest and highest values: ${ends}.`}>
        {ticks.map((tick) => (
          <g>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 6} y={y(tick) + 4} text-anchor="end">
              {number(tick, places)}
            </text>
            <text x={x(tick)} y={HEIGHT - BOTTOM + 15} text-anchor="middle">
              {number(tick, places)}
            </text>
          </g>
        ))}
        <line class="mark" x1={x(low)} y1={y(low)} x2={x(high)} y2={y(high)} />
        {bins.map((bin) => (
          <g class="p1">
            <title>{`value ${number(bin.value, 3, true)}: mean return ${number(bin.return, 3, true)}, 80 % of returns ${number(bin.low, 3, true)} to ${number(bin.high, 3, true)}`}</title>
            <line class="range" x1={x(bin.value)} x2={x(bin.value)} y1={y(bin.low)} y2={y(bin.high)} />
            <circle class="point" cx={x(bin.value)} cy={y(bin.return)} r={3.5} />
          </g>
        ))}
        <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 4} text-anchor="middle">
          value, units of reward
        </text>
      </svg>
      <figcaption>
        {counted(critic.tokens, "token")} in {bins.length} groups of equal size by their value: mean return (vertical axis,
        units of reward), and the range of 80 % of the returns. On the dashed line the critic is right on average. Explained
        variance {number(critic.explained, 3)}: 1 is perfect, 0 no better than the mean.
      </figcaption>
    </figure>
  );
}
