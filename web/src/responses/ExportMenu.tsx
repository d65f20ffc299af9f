// Take the examples found, the notes, and a link to this view out of the page.

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { encodeState, pageState } from "../page/state";
import { copyText, download } from "./clipboard";
import type { Explorer } from "./explorer";
import { type Provenance, toCsv, toJson, toMarkdown } from "./export";
import { exportNotes, importNotes } from "./notes";
import { filterWords, orderWords } from "./words";

/** What the page says about itself. */
export interface Origin {
  schema: number;
  harken: string;
  made: string;
  lineage: string[];
}

function provenance(explorer: Explorer, origin: Origin): Provenance {
  const { corpus, index } = explorer;
  return {
    report: corpus.title,
    fingerprint: explorer.print,
    ...origin,
    filter: filterWords(index, explorer.state.peek()),
    order: orderWords(index, explorer.order.peek()),
    examples: explorer.rows.peek().length,
    of: corpus.examples.length,
    exported: new Date().toISOString(),
    address: encodeState(pageState.peek()),
  };
}

const FORMATS = [
  ["CSV", "csv", "text/csv", toCsv],
  ["JSON", "json", "application/json", toJson],
  ["Markdown", "md", "text/markdown", toMarkdown],
] as const;

export function ExportMenu({ explorer, origin }: { explorer: Explorer; origin: Origin }) {
  const message = useSignal("");
  const file = useRef<HTMLInputElement>(null);
  const save = (format: (typeof FORMATS)[number]) => {
    const [name, ending, type, write] = format;
    const rows = explorer.rows.peek();
    const text = write(explorer.corpus, rows, explorer.notes.peek(), provenance(explorer, origin));
    download(`responses-${explorer.print.slice(0, 8)}.${ending}`, type, text);
    message.value = `Saved ${rows.length} ${rows.length === 1 ? "example" : "examples"} as ${name}.`;
  };
  const copyLink = async () => {
    const isDone = await copyText(location.href);
    message.value = isDone ? "Copied the link to this view." : "The browser refused to copy. Copy the address instead.";
  };
  const read = async (chosen: File | undefined) => {
    if (!chosen) return;
    try {
      const ids = new Set(explorer.ids.keys());
      const result = importNotes(await chosen.text(), explorer.print, ids, explorer.notes.peek());
      explorer.replaceNotes(result.notes);
      message.value = `Read ${result.added} ${result.added === 1 ? "note" : "notes"}. ${result.message}`;
    } catch (error) {
      message.value = error instanceof Error ? error.message : String(error);
    }
  };
  const count = Object.keys(explorer.notes.value).length;
  return (
    <details class="menu">
      <summary>Save and share</summary>
      <div class="card">
        <p class="small">The {explorer.rows.value.length.toLocaleString("en")} examples found, in this order:</p>
        <div class="bar">
          {FORMATS.map((format) => (
            <button type="button" data-format={format[1]} onClick={() => save(format)}>
              {format[0]}
            </button>
          ))}
        </div>
        <div class="bar">
          <button type="button" onClick={copyLink}>
            Copy link to this view
          </button>
        </div>
        <p class="small">Notes and tags ({count}), kept in this browser:</p>
        <div class="bar">
          <button
            type="button"
            disabled={!count}
            onClick={() => {
              const text = exportNotes(explorer.print, explorer.corpus.title, explorer.notes.peek());
              download(`notes-${explorer.print.slice(0, 8)}.json`, "application/json", text);
            }}
          >
            Export notes
          </button>
          <button type="button" onClick={() => file.current?.click()}>
            Import notes
          </button>
          <input
            ref={file}
            type="file"
            accept="application/json,.json"
            class="hidden"
            tabIndex={-1}
            aria-label="File of notes"
            onChange={(event) => {
              void read(event.currentTarget.files?.[0]);
              event.currentTarget.value = "";
            }}
          />
        </div>
        <p class="small" role="status">
          {message.value}
        </p>
      </div>
    </details>
  );
}
