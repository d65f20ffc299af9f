// The first thing on the page: what was found.
import type { PageData } from "../contract";
import { Section } from "../page/Section";
import { Verdict } from "./Verdict";

export function Overview({ data }: { data: PageData }) {
  return (
    <Section id="verdict" title="Verdict">
      <Verdict sentences={data.verdict} />
    </Section>
  );
}
