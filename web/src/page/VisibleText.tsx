// Text of models and users as text nodes: hits and differences marked, invisible characters by name.

import type { ComponentChildren } from "preact";
import { codePoint, type Marks, segments } from "./segments";

export function VisibleText({ text, marks }: { text: string; marks?: readonly Marks[] }) {
  return (
    <>
      {segments(text, marks).map((piece) => {
        let node: ComponentChildren = piece.hidden ? (
          <span class="control" title="invisible character">
            {codePoint(piece.text)}
          </span>
        ) : (
          piece.text
        );
        for (const kind of piece.marks) {
          node = kind === "added" ? <ins>{node}</ins> : kind === "removed" ? <del>{node}</del> : <mark>{node}</mark>;
        }
        return node;
      })}
    </>
  );
}
