// Training: how healthy each stage was, then its curves.
import { useMemo } from "preact/hooks";
import type { Chart, Finding, PageData } from "../contract";
import { Section } from "../page/Section";
import { HealthStrip } from "./HealthStrip";
import { StageCharts } from "./StageCharts";

/** Charts that share their controls, the pointer and the zoom. */
export interface Group {
  id: string;
  title: string;
  /** What a step is called. */
  noun: string;
  steps: number;
  charts: readonly Chart[];
  findings: readonly Finding[];
  /** Labels of the runs where several are in one chart; each can be hidden. */
  runs: readonly string[];
}

const nounOf = (kind: string) => (kind.startsWith("ppo") ? "update" : kind === "review" ? "vote" : "step");

/** Whether the page is the report of a review: its charts are of raters. */
export const isReview = (stages: PageData["stages"]) => stages.length > 0 && stages.every(({ kind }) => kind === "review");

export const trainingTitle = (stages: PageData["stages"]) => (isReview(stages) ? "Raters over time" : "Training");

/** The stages with curves, after the charts in which several runs are overlaid. */
export function groupsOf(data: PageData): Group[] {
  const overlays = data.overlays.map((overlay) => ({
    id: `overlay-${overlay.kind}`,
    title: `${overlay.title}: all runs`,
    noun: nounOf(overlay.kind),
    steps: Math.max(...data.stages.filter(({ kind }) => kind === overlay.kind).map(({ steps }) => steps), 0),
    charts: overlay.charts,
    findings: [],
    runs: [...new Set(overlay.charts.flatMap((chart) => chart.series.map((series) => series.label)))],
  }));
  const stages = data.stages
    .filter((stage) => stage.charts.length)
    .map((stage) => ({
      id: `stage-${stage.name}`,
      title: stage.title,
      noun: nounOf(stage.kind),
      steps: stage.steps,
      charts: stage.charts,
      findings: stage.health?.findings ?? [],
      runs: [],
    }));
  return [...overlays, ...stages];
}

export function Training({ data }: { data: PageData }) {
  const groups = useMemo(() => groupsOf(data), [data]);
  return (
    <Section id="training" title={trainingTitle(data.stages)}>
      {isReview(data.stages) ? null : <HealthStrip stages={data.stages} />}
      {groups.map((group) => (
        <StageCharts key={group.id} group={group} />
      ))}
    </Section>
  );
}
