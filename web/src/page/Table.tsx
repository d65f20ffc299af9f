// Tables: a card with a caption that scrolls by itself when it is wider than the page.
import type { ComponentChildren } from "preact";

export interface Column<Item> {
  name: string;
  /** Right-aligned digits. */
  numeric?: boolean;
  cell: (item: Item) => ComponentChildren;
  /** Shown on hover and read out: what the column means. */
  help?: string;
  /** The ends of the axis that the column's drawings share. */
  axis?: readonly [string, string];
}

/** A column of digits. */
export const digits = <Item,>(name: string, cell: (item: Item) => string, help?: string): Column<Item> => ({
  name,
  numeric: true,
  cell,
  help,
});

/** The two ends of an axis, as wide as the drawings below it. */
export function Ends({ axis }: { axis: readonly [string, string] }) {
  return (
    <span class="ends" aria-hidden="true">
      <span>{axis[0]}</span>
      <span>{axis[1]}</span>
    </span>
  );
}

interface TableProps<Item> {
  caption: string;
  items: readonly Item[];
  columns: readonly Column<Item>[];
  /** The heading of each row, and the name of their column. */
  rowHead: (item: Item) => ComponentChildren;
  rowName: string;
  kind?: string;
}

/** A table with one row per item. On a narrow page each row becomes a card whose cells name their columns. */
export function ItemTable<Item>({ caption, items, columns, rowHead, rowName, kind = "" }: TableProps<Item>) {
  return (
    <TableCard caption={caption} kind={`stack ${kind}`}>
      <thead>
        <tr>
          <th scope="col">{rowName}</th>
          {columns.map((column) => (
            <th scope="col" class={column.numeric ? "number" : undefined} title={column.help}>
              {column.name}
              {column.axis ? <Ends axis={column.axis} /> : null}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {items.map((item) => (
          <tr>
            <th scope="row">{rowHead(item)}</th>
            {columns.map((column) => (
              <td class={column.numeric ? "number" : undefined} data-name={column.name}>
                {column.cell(item)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </TableCard>
  );
}

/** The card around a table of any form. */
export function TableCard({ caption, kind, children }: { caption: string; kind?: string; children: ComponentChildren }) {
  return (
    <div class="card scroll" role="region" tabIndex={0} aria-label={caption}>
      <table class={kind}>
        <caption>{caption}</caption>
        {children}
      </table>
    </div>
  );
}
