// At most three numbers that open the page, in words that need no glossary.
import type { Headline, Pair } from "../contract";
import { typeset } from "../page/numbers";
import { VisibleText } from "../page/VisibleText";
import { figureRows } from "./rows";

export function LargeNumbers({ headline, pairs }: { headline: Headline; pairs: readonly Pair[] }) {
  if (!headline.numbers.length) return null;
  return (
    <ul class="main-numbers" aria-label="The main numbers">
      {headline.numbers.map(({ label, value, detail, filter }) => {
        const rows = figureRows(filter, pairs);
        return (
          <li class="card">
            <span class="label">
              <VisibleText text={label} />
            </span>
            <span class={`large${value.length > 9 ? " long" : ""}`}>{value}</span>
            <span class="small">
              <VisibleText text={typeset(detail)} />
            </span>
            {rows ? (
              <button type="button" class="link" onClick={rows}>
                Show the responses
                <span class="hidden"> behind “{label}”</span>
              </button>
            ) : null}
          </li>
        );
      })}
    </ul>
  );
}
