// The examples found, one line each. Only the lines in view are in the page.

import { useSignal } from "@preact/signals";
import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
} from "@tanstack/virtual-core";
import { useEffect, useRef } from "preact/hooks";
import { number } from "../page/numbers";
import { tint } from "../page/Policy";
import type { Explorer } from "./explorer";
import { VisibleText } from "../page/VisibleText";
import { asked, responseOf } from "./rows";

const LINE = 34;
/** Characters of a prompt that a line can show. */
const WIDEST = 300;

export function PromptList({ explorer }: { explorer: Explorer }) {
  const scroller = useRef<HTMLOListElement>(null);
  const version = useSignal(0);
  const rows = explorer.rows.value;
  const current = explorer.current.value;
  const options = () => ({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE,
    overscan: 20,
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    onChange: () => {
      version.value += 1;
    },
  });
  const list = useRef<Virtualizer<HTMLOListElement, HTMLLIElement> | null>(null);
  list.current ??= new Virtualizer<HTMLOListElement, HTMLLIElement>(options());
  list.current.setOptions(options());
  useEffect(() => list.current?._didMount(), []);
  useEffect(() => list.current?._willUpdate());
  const place = current === null ? -1 : rows.indexOf(current);
  useEffect(() => {
    if (place >= 0) list.current?.scrollToIndex(place, { align: "auto" });
  }, [place, rows]);
  void version.value;
  return (
    <ol class="card rail" aria-label="Prompts found" data-count={rows.length} ref={scroller} tabIndex={-1}>
      <li class="spacer" aria-hidden="true" style={{ height: `${list.current.getTotalSize()}px` }} />
      {list.current.getVirtualItems().map(({ index, start }) => {
        const row = rows[index];
        return row === undefined ? null : (
          <Line key={row} explorer={explorer} row={row} index={index} start={start} of={rows.length} isCurrent={row === current} />
        );
      })}
    </ol>
  );
}

interface LineProps {
  explorer: Explorer;
  row: number;
  index: number;
  start: number;
  of: number;
  isCurrent: boolean;
}

function Line({ explorer, row, index, start, of, isCurrent }: LineProps) {
  const example = explorer.corpus.examples[row];
  if (!example) return null;
  const isBlind = explorer.modes.value.blind;
  const note = explorer.notes.value[example.id];
  return (
    <li aria-setsize={of} aria-posinset={index + 1} style={{ transform: `translateY(${start}px)` }}>
      <button
        type="button"
        data-id={example.id}
        aria-current={isCurrent ? "true" : undefined}
        onClick={() => explorer.show(row)}
      >
        <span class="asked">
          {note ? <span title="has a note">✎ </span> : null}
          <VisibleText text={asked(example).slice(0, WIDEST).replace(/\s+/g, " ")} />
        </span>
        {isBlind
          ? null
          : explorer.corpus.policies.map((policy, i) => {
              const response = responseOf(example, policy);
              return (
                <span class={`reward ${tint(i)}`} title={`${explorer.corpus.reward} of ${policy}`}>
                  {response ? number(response.reward, 2, true) : ""}
                </span>
              );
            })}
      </button>
    </li>
  );
}
