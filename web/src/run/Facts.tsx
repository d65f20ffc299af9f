// What each run recorded: configuration, models, lineage, versions.
import type { Stage } from "../contract";
import { Section } from "../page/Section";
import { ItemTable, TableCard } from "../page/Table";
import { VisibleText } from "../page/VisibleText";
import { cellText, flat, isTable } from "./flat";

/** One fact, or the facts below one name, as a table. */
export function FactTable({ name, value }: { name: string; value: unknown }) {
  const title = name.replaceAll("_", " ");
  if (isTable(value)) {
    const [first, ...others] = [...new Set(value.flatMap(Object.keys))];
    return (
      <ItemTable
        caption={title}
        items={value}
        rowName={first}
        rowHead={(row) => <VisibleText text={cellText(row[first])} />}
        kind="wrap"
        columns={others.map((key) => ({
          name: key,
          numeric: typeof value[0][key] === "number",
          cell: (row: Record<string, unknown>) => <VisibleText text={cellText(row[key])} />,
        }))}
      />
    );
  }
  return (
    <TableCard caption={title} kind="facts wrap">
      <tbody>
        {flat(value).map(([key, text]) => (
          <tr>
            <th scope="row">{key || title}</th>
            <td>
              <VisibleText text={text} />
            </td>
          </tr>
        ))}
      </tbody>
    </TableCard>
  );
}

const isPlain = (value: unknown) => value === null || typeof value !== "object";

export function Facts({ stages }: { stages: readonly Stage[] }) {
  return (
    <Section id="run" title="Run">
      {stages
        .filter((stage) => Object.keys(stage.facts).length)
        .map((stage) => {
          const facts = Object.entries(stage.facts).sort(([a], [b]) => Number(a === "config") - Number(b === "config"));
          const single = Object.fromEntries(facts.filter(([, value]) => isPlain(value)));
          return (
            <details>
              <summary>{stage.title}</summary>
              {Object.keys(single).length ? <FactTable name="facts" value={single} /> : null}
              {facts
                .filter(([, value]) => !isPlain(value))
                .map(([name, value]) => (
                  <FactTable name={name} value={value} />
                ))}
            </details>
          );
        })}
    </Section>
  );
}
