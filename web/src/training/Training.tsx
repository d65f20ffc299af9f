// Training: how healthy each stage was, then its curves.
import { useMemo } from "preact/hooks";
import type { Chart, PageData } from "../contract";
import { Section } from "../page/Section";
import type { Finding } from "./health";
import { HealthStrip, healthOf, kindOf } from "./HealthStrip";
import { StageCharts } from "./StageCharts";

/** Charts that share their controls, the pointer and the zoom: those of a stage. */
export interface Group {
  id: string;
  title: string;
  /** What a step is called. */
  noun: string;
  steps: number;
  charts: readonly Chart[];
  findings: readonly Finding[];
}

const nounOf = (kind: string) => (kind.startsWith("ppo") ? "update" : "step");

export function groupsOf(data: PageData): Group[] {
  return data.stages
    .filter((stage) => stage.charts.length)
    .map((stage) => ({
      id: `stage-${stage.name}`,
      title: stage.title,
      noun: nounOf(kindOf(stage)),
      steps: stage.steps,
      charts: stage.charts,
      findings: healthOf(stage)?.findings ?? [],
    }));
}

export function Training({ data }: { data: PageData }) {
  const groups = useMemo(() => groupsOf(data), [data]);
  return (
    <Section id="training" title="Training">
      <HealthStrip stages={data.stages} />
      {groups.map((group) => (
        <StageCharts key={group.id} group={group} />
      ))}
    </Section>
  );
}
