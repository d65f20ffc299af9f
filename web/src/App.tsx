// The page: header, contents, sections.
import { TextSections } from "./overview/TextSections";
import { Comparison } from "./overview/Comparison";
import { TrialTable } from "./overview/TrialTable";
import { Overview } from "./overview/Overview";
import type { PageData } from "./contract";
import { Contents, type Entry } from "./page/Contents";
import { counted } from "./page/numbers";
import { VisibleText } from "./page/VisibleText";
import { Responses } from "./responses/Responses";
import { Tokens } from "./tokens/Tokens";
import { DataReports } from "./run/DataReports";
import { Facts } from "./run/Facts";
import { isReview, Training, trainingTitle } from "./training/Training";

function subtitle({ summary, stages, examples, policies }: PageData): string {
  if (isReview(stages) || (!summary && !stages.length && !examples.length)) {
    return "Votes of people who did not know which policy wrote which response. Intervals are 95 %.";
  }
  if (!summary && !stages.length) return `${policies.join(", ")} on ${counted(examples.length, "prompt")}.`;
  if (!summary) return `Training of ${stages.map((stage) => stage.title).join(", ")}`;
  const samples = summary.samples > 1 ? `, ${summary.samples} samples each` : "";
  return `${summary.policies.join(", ")} on ${counted(summary.prompts, "prompt")}${samples}. Intervals are 95 %.`;
}

/** The sections that the data fill, in page order. */
export function entries(data: PageData): Entry[] {
  const some: [boolean, string, string][] = [
    [data.verdict.length > 0, "verdict", "Verdict"],
    [data.summary !== null, "comparison", "Comparison"],
    [data.trials !== null, "trials", data.trials?.title ?? ""],
    ...data.sections.map((section): [boolean, string, string] => [true, section.id, section.title]),
    [data.stages.some((stage) => stage.charts.length > 0), "training", trainingTitle(data.stages)],
    [data.examples.length > 0, "responses", "Responses"],
    [data.tokens.steps.length > 0, "tokens", "Tokens"],
    [data.stages.some((stage) => stage.data.length > 0), "data-reports", "Data"],
    [data.stages.some((stage) => Object.keys(stage.facts).length > 0), "run", "Run"],
  ];
  return some.filter(([shown]) => shown).map(([, id, title]) => ({ id, title }));
}

export function App({ data }: { data: PageData }) {
  const contents = entries(data);
  const has = (id: string) => contents.some((entry) => entry.id === id);
  return (
    <>
      <header>
        <h1 id="title">
          <VisibleText text={data.title} />
        </h1>
        <p id="subtitle">{subtitle(data)}</p>
      </header>
      <Contents entries={contents} />
      <main>
        {data.notice ? (
          <p class="notice" role="note">
            <strong>Note: </strong>
            <VisibleText text={data.notice} />
          </p>
        ) : null}
        {has("verdict") ? <Overview data={data} /> : null}
        {data.summary ? <Comparison data={data} summary={data.summary} /> : null}
        {data.trials ? <TrialTable trials={data.trials} /> : null}
        <TextSections data={data} />
        {has("training") ? <Training data={data} /> : null}
        {has("responses") ? <Responses data={data} /> : null}
        {has("tokens") ? <Tokens data={data} /> : null}
        {has("data-reports") ? <DataReports stages={data.stages} /> : null}
        {has("run") ? <Facts stages={data.stages} /> : null}
      </main>
    </>
  );
}
