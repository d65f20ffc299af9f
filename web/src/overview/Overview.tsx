// The first thing on the page: what was found, three numbers, and one example.
import type { PageData } from "../contract";
import { Section } from "../page/Section";
import { FirstExample } from "./FirstExample";
import { LargeNumbers } from "./LargeNumbers";
import { RunCard } from "./RunCard";
import { Verdict } from "./Verdict";

export function Overview({ data }: { data: PageData }) {
  return (
    <Section id="verdict" title="Verdict">
      <Verdict sentences={data.verdict} />
      <LargeNumbers headline={data.headline} pairs={data.summary?.pairs ?? []} />
      <FirstExample data={data} />
      <RunCard data={data} />
    </Section>
  );
}
