// The examples found, one line each. Only the lines in view are in the page.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { number } from "../page/numbers";
import { tint } from "../page/Policy";
import { VisibleText } from "../page/VisibleText";
import type { Explorer } from "./explorer";
import { LINE, linesInView, scrollFor, type View } from "./lines";
import { asked, responseOf } from "./rows";

/** Characters of a prompt that a line can show. */
const WIDEST = 300;

export function PromptList({ explorer }: { explorer: Explorer }) {
  const scroller = useRef<HTMLOListElement>(null);
  const view = useSignal<View>({ top: 0, height: 0 });
  const rows = explorer.rows.value;
  const current = explorer.current.value;
  const look = () => {
    const { scrollTop, clientHeight } = scroller.current!;
    if (scrollTop !== view.value.top || clientHeight !== view.value.height) {
      view.value = { top: scrollTop, height: clientHeight };
    }
  };
  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);
  const place = current === null ? -1 : rows.indexOf(current);
  useEffect(() => {
    const { scrollTop, clientHeight } = scroller.current!;
    if (place >= 0) scroller.current!.scrollTop = scrollFor(place, { top: scrollTop, height: clientHeight });
    look();
  }, [place, rows]);
  const [first, end] = linesInView(view.value, rows.length);
  return (
    <ol class="card rail" aria-label="Prompts found" data-count={rows.length} ref={scroller} tabIndex={-1} onScroll={look}>
      <li class="spacer" aria-hidden="true" style={{ height: `${rows.length * LINE}px` }} />
      {rows.slice(first, end).map((row, i) => (
        <Line key={row} explorer={explorer} row={row} index={first + i} of={rows.length} isCurrent={row === current} />
      ))}
    </ol>
  );
}

interface LineProps {
  explorer: Explorer;
  row: number;
  index: number;
  of: number;
  isCurrent: boolean;
}

function Line({ explorer, row, index, of, isCurrent }: LineProps) {
  const example = explorer.corpus.examples[row];
  if (!example) return null;
  const isBlind = explorer.modes.value.blind;
  const note = explorer.notes.value[example.id];
  return (
    <li aria-setsize={of} aria-posinset={index + 1} style={{ transform: `translateY(${index * LINE}px)` }}>
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
