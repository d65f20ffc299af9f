// Numbers with intervals in rows that Python names: the audit, the suites of sycophancy, the raters of a card.
import type { PageData, TextSection } from "../contract";
import { Interval } from "../page/Interval";
import { endTexts, scaleOf, shareScale, type IntervalLike, type Scale } from "../page/intervals";
import { percent, points, signed } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { figureRows } from "./rows";

type Block = TextSection["blocks"][number];
type Row = NonNullable<Block["figures"]>[number];
type Format = NonNullable<Block["formats"]>[number];

const SHOW: Record<Format, (value: number) => string> = { share: percent, signed, points, text: String };

export function FiguresTable({ block, data }: { block: Block; data: PageData }) {
  const { policies } = data;
  const [first = "", ...heads] = block.heads ?? [];
  const rows = block.figures ?? [];
  const formats = block.formats ?? [];
  const scales = new Map<Format, Scale>([["share", shareScale()]]);
  for (const format of ["signed", "points"] as const) {
    scales.set(format, scaleOf(rows.flatMap(({ cells }) => cells.filter((cell, i) => formats[i] === format && isFigure(cell)) as IntervalLike[]), 0));
  }
  return (
    <ItemTable
      caption={block.text ?? ""}
      items={rows}
      rowName={first}
      kind={heads.length < 4 ? "roomy" : ""}
      rowHead={({ name, policy }: Row) => (
        <>
          <VisibleText text={name} />
          {policy ? <span class="of"> <PolicyName name={policy} policies={policies} /></span> : null}
        </>
      )}
      columns={heads.map((name, i) => {
        const format = formats[i] ?? "text";
        const scale = scales.get(format);
        return {
          name,
          axis: scale && endTexts(scale, SHOW[format]),
          cell: ({ cells, policy }: Row) => {
            const cell = cells[i];
            if (!scale || !isFigure(cell)) return <VisibleText text={cell ? String(cell) : "–"} />;
            const place = policies.indexOf(policies.includes(name) ? name : (policy ?? ""));
            return (
              <Interval
                interval={cell}
                scale={scale}
                kind={place < 0 ? "effect" : tint(place)}
                show={SHOW[format]}
                rows={figureRows(cell.filter, data.summary?.pairs ?? [])}
                note={cell.note}
              />
            );
          },
        };
      })}
    />
  );
}

type Cell = Exclude<Row["cells"][number], string | null>;

const isFigure = (cell: unknown): cell is Cell => typeof cell === "object" && cell !== null;
