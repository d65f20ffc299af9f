// The section "Responses": filters, list, plot and the example that is shown.

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { PageData } from "../contract";
import { counted } from "../page/numbers";
import { Section } from "../page/Section";
import { Checkpoints } from "./Checkpoints";
import { ExampleView } from "./ExampleView";
import { Explorer } from "./explorer";
import { ExportMenu, type Origin } from "./ExportMenu";
import { lineageOf } from "./export";
import { FacetPanel } from "./FacetPanel";
import { Help } from "./Help";
import { press } from "./keyboard";
import { VisibleText } from "../page/VisibleText";
import { PromptList } from "./PromptList";
import { corpusOf } from "./rows";
import { SampleBar } from "./SampleBar";
import { ScatterPlot } from "./ScatterPlot";
import { Conditions, SearchBar } from "./SearchBar";

/** From this width the facets stand beside the list and are open. */
const WIDE = "(min-width: 60rem)";

function originOf(data: PageData): Origin {
  return {
    schema: data.version,
    harken: data.made?.harken ?? "",
    made: data.made?.when ?? "",
    lineage: lineageOf(data.stages),
  };
}

export function Responses({ data }: { data: PageData }) {
  const explorer = useMemo(() => new Explorer(corpusOf(data), data.headline.example), [data]);
  const origin = useMemo(() => originOf(data), [data]);
  const help = useRef<HTMLDialogElement>(null);
  // Keys work from the first drawing on, not from the first pause after it.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) =>
      press(event, explorer, {
        search: () => document.getElementById("responses-search")?.focus(),
        note: () => document.getElementById("example-note")?.focus(),
        help: () => help.current?.showModal(),
      });
    document.addEventListener("keydown", onKey);
    const idle = setTimeout(() => explorer.warm(), 400);
    return () => {
      document.removeEventListener("keydown", onKey);
      clearTimeout(idle);
    };
  }, [explorer]);
  return (
    <Section id="responses" title="Responses">
      <SearchBar explorer={explorer} />
      <Ignored explorer={explorer} />
      <div class="explorer">
        <details class="side" open={matchMedia(WIDE).matches}>
          <summary>Filters</summary>
          <FacetPanel explorer={explorer} />
        </details>
        <div class="main">
          <Bar explorer={explorer} origin={origin} openHelp={() => help.current?.showModal()} />
          <Conditions explorer={explorer} />
          <ScatterPlot explorer={explorer} />
          <PromptList explorer={explorer} />
          <Current explorer={explorer} />
          {data.checkpoints.length ? (
            <Checkpoints checkpoints={data.checkpoints} current={explorer.example.value?.id ?? null} />
          ) : null}
        </div>
      </div>
      <Help dialog={help} />
    </Section>
  );
}

function Ignored({ explorer }: { explorer: Explorer }) {
  const parts = explorer.ignored.value;
  if (!parts.length) return null;
  return (
    <p class="message" role="status">
      The address has parts that this page does not know; they were ignored: <VisibleText text={parts.join("; ")} />
    </p>
  );
}

function Bar({ explorer, origin, openHelp }: { explorer: Explorer; origin: Origin; openHelp: () => void }) {
  const rows = explorer.rows.value;
  const all = explorer.corpus.examples.length;
  const current = explorer.current.value;
  const place = current === null ? -1 : rows.indexOf(current);
  const found = rows.length === all ? counted(all, "example") : `${rows.length.toLocaleString("en")} of ${counted(all, "example")}`;
  return (
    <div class="bar">
      <button type="button" disabled={place <= 0} onClick={() => explorer.step(-1)}>
        ← Previous
      </button>
      <button type="button" disabled={place < 0 || place >= rows.length - 1} onClick={() => explorer.step(1)}>
        Next →
      </button>
      <button type="button" disabled={rows.length < 2} onClick={() => explorer.random()}>
        Random
      </button>
      <span role="status" class="muted found">
        {rows.length ? `${place + 1} of ${rows.length.toLocaleString("en")} · ${found}` : "nothing found"}
      </span>
      <SampleBar explorer={explorer} />
      <ExportMenu explorer={explorer} origin={origin} />
      <button type="button" onClick={openHelp}>
        <kbd>?</kbd> Keys
      </button>
    </div>
  );
}

function Current({ explorer }: { explorer: Explorer }) {
  const example = explorer.example.value;
  if (!example) return <p class="muted">No example matches these filters. Remove one, or clear all.</p>;
  return <ExampleView explorer={explorer} example={example} />;
}
