// Show text of models and users as text nodes.
import { codePoint, pieces } from "./visible";

/** A text in which invisible characters are labelled and hits of `needle` are marked. */
export function VisibleText({ text, needle = "" }: { text: string; needle?: string | RegExp }) {
  return (
    <>
      {pieces(text, needle).map(({ kind, text: part }) =>
        kind === "text" ? (
          part
        ) : kind === "hit" ? (
          <mark>{part}</mark>
        ) : (
          <span class="control" title="invisible character">
            {codePoint(part)}
          </span>
        ),
      )}
    </>
  );
}

/** A paragraph of such text, in its own writing direction and with its line breaks. */
export function Prose({ text, needle, language }: { text: string; needle?: string | RegExp; language?: string }) {
  if (!text.trim()) return <p class="text muted">{text ? "(whitespace only)" : "(empty)"}</p>;
  return (
    <div class="text" dir="auto" lang={language || undefined} tabIndex={0}>
      <VisibleText text={text} needle={needle} />
    </div>
  );
}
