// What the columns of the pair tables mean: the notes that the terminal prints below the same tables.
import { counted } from "../page/numbers";
import type { TableProps } from "./PairTables";

export function PairNotes({ summary }: TableProps) {
  const notes = [
    "Win rate = W / (W + T + L) of the right policy: ties count in the denominator only. " +
      "Without ties = W / (W + L); ties as half = (W + T / 2) / (W + T + L).",
    `Tie: the rewards differ by at most ${summary.tie_epsilon}.`,
    `Intervals of means: ${counted(summary.draws, "bootstrap draw")} of prompts, percentile unless BCa. ` +
      "A hollow point means that the interval contains zero: no clear difference.",
    "Length-controlled, style-controlled: win rate at equal length (and markup), ties as half, fitted again in " +
      `${counted(summary.refit_draws, "draw")}.`,
    "p: exact sign test (Holm over the pairs), for rates exact McNemar. q: Benjamini–Hochberg over the slices of a pair.",
    "d_z: the mean difference divided by the standard deviation of the differences.",
    "Detectable: the smallest true difference that is found with 80 % power.",
  ];
  return (
    <ul class="small notes">
      {notes.map((text) => (
        <li>{text}</li>
      ))}
    </ul>
  );
}
