// Rows read, used, dropped and shortened, by source.
import type { Report, Stage } from "../contract";
import { Section } from "../page/Section";
import { ItemTable } from "../page/Table";
import { VisibleText } from "../page/VisibleText";

function reasons(counts: Record<string, number> | undefined): string {
  const texts = Object.entries(counts ?? {}).map(
    ([reason, count]) => `${reason.replaceAll("_", " ")}: ${count.toLocaleString("en")}`,
  );
  return texts.join(", ") || "none";
}

interface Row {
  stage: Stage;
  report: Report;
}

export function DataReports({ stages }: { stages: readonly Stage[] }) {
  const rows: Row[] = stages.flatMap((stage) => stage.data.map((report) => ({ stage, report })));
  const count = (pick: (report: Report) => number) => ({ report }: Row) => pick(report).toLocaleString("en");
  return (
    <Section id="data-reports" title="Data">
      <p class="muted">Every row that was read is either used or counted under the reason for dropping it.</p>
      <ItemTable
        caption="Rows read, used, dropped and shortened, by source"
        items={rows}
        rowName="stage"
        rowHead={({ stage }) => stage.title}
        kind="wrap"
        columns={[
          { name: "source", cell: ({ report }) => <VisibleText text={report.path || ""} /> },
          { name: "read", numeric: true, cell: count((report) => report.raw) },
          { name: "used", numeric: true, cell: count((report) => report.kept) },
          { name: "dropped", numeric: true, cell: count((report) => report.raw - report.kept) },
          { name: "why dropped", cell: ({ report }) => reasons(report.dropped) },
          { name: "shortened", cell: ({ report }) => reasons(report.shortened) },
        ]}
      />
    </Section>
  );
}
