// The verdict: a word, a shape and a colour say the same thing.
import type { Sentence } from "../contract";
import { typeset } from "../page/numbers";
import { VisibleText } from "../page/VisibleText";

const SIGNS: Record<Sentence["word"], [string, string]> = {
  Better: ["good", "▲"],
  Worse: ["bad", "▼"],
  Unclear: ["unclear", "●"],
  Warning: ["warning", "⚠"],
  Higher: ["level", "△"],
  Lower: ["level", "▽"],
  Note: ["", "·"],
};

export function Tag({ word }: { word: Sentence["word"] }) {
  const [kind, shape] = SIGNS[word];
  return (
    <span class={`tag ${kind}`}>
      <span aria-hidden="true">{shape} </span>
      {word}
    </span>
  );
}

export function Verdict({ sentences }: { sentences: readonly Sentence[] }) {
  const [first, ...facts] = sentences;
  if (!first) return null;
  return (
    <div class={`card verdict ${SIGNS[first.word][0]}`}>
      <Tag word={first.word} />
      <p>
        <VisibleText text={typeset(first.text)} />
      </p>
      {facts.length ? (
        <ul>
          {facts.map((fact) => (
            <li>
              <Tag word={fact.word} />
              <span>
                <VisibleText text={typeset(fact.text)} />
              </span>
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}
