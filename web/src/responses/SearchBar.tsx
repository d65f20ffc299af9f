// Search, order, conditions in force.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Explorer } from "./explorer";
import { VisibleText } from "../page/VisibleText";
import { INTEREST } from "./measures";
import { FIRST_ORDER } from "./order";
import { grouped } from "./RangeFilters";
import { scopesOf } from "./search";
import { conditions } from "./words";

/** Milliseconds after the last key before the search runs. */
const PAUSE = 120;

export function SearchBar({ explorer }: { explorer: Explorer }) {
  const { search } = explorer.state.value;
  const typed = useSignal(search.text);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  // The address or the button "Clear" may change the search from outside.
  useEffect(() => {
    typed.value = search.text;
  }, [search.text]);
  const change = (patch: Partial<typeof search>) => explorer.change({ search: { ...explorer.state.peek().search, ...patch } });
  const onInput = (text: string) => {
    typed.value = text;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change({ text }), PAUSE);
  };
  const message = explorer.searchMessage.value;
  return (
    <div class="card tools" role="search">
      <label class="grow">
        Search
        <input
          type="search"
          id="responses-search"
          autocomplete="off"
          spellcheck={false}
          placeholder={search.isRegex ? "regular expression" : "words in prompts and responses"}
          value={typed.value}
          aria-invalid={message !== ""}
          aria-describedby="search-message"
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      </label>
      <label>
        In
        <select value={search.scope} onChange={(event) => change({ scope: event.currentTarget.value })}>
          {scopesOf(explorer.corpus.policies).map(([scope, label]) => (
            <option value={scope}>{label}</option>
          ))}
        </select>
      </label>
      <label class="check">
        <input type="checkbox" checked={search.isRegex} onChange={(event) => change({ isRegex: event.currentTarget.checked })} />
        regular expression
      </label>
      <OrderChoice explorer={explorer} />
      <p id="search-message" class="message" role="alert">
        <VisibleText text={message} />
      </p>
    </div>
  );
}

function OrderChoice({ explorer }: { explorer: Explorer }) {
  const order = explorer.order.value;
  const first = explorer.index.measures.find(({ key }) => key === INTEREST);
  return (
    <>
      <label>
        Order
        <select
          id="responses-order"
          value={order.by}
          onChange={(event) => {
            const by = event.currentTarget.value;
            explorer.change({ order: by === INTEREST ? null : { by, descending: by !== "index" && by !== "queue" } });
          }}
        >
          <option value={INTEREST}>{first?.title}</option>
          <option value="index">as evaluated</option>
          {grouped(explorer.index.measures).map(([title, measures]) => (
            <optgroup label={title}>
              {measures.map((measure) => (
                <option value={measure.key}>{measure.title}</option>
              ))}
            </optgroup>
          ))}
        </select>
      </label>
      <button
        type="button"
        aria-label={order.descending ? "Highest first; change to lowest first" : "Lowest first; change to highest first"}
        onClick={() => explorer.change({ order: { by: order.by, descending: !order.descending } })}
      >
        {order.descending ? "↓ highest first" : "↑ lowest first"}
      </button>
      {explorer.state.value.order && order.by !== FIRST_ORDER.by ? (
        <button type="button" onClick={() => explorer.change({ order: null })}>
          First order
        </button>
      ) : null}
    </>
  );
}

/** The conditions in force, each with a button that takes it away. */
export function Conditions({ explorer }: { explorer: Explorer }) {
  const found = conditions(explorer.index, explorer.state.value);
  if (!found.length) return null;
  return (
    <ul class="conditions" aria-label="Conditions in force">
      {found.map(({ text, without }) => (
        <li>
          <VisibleText text={text} />
          <button type="button" class="plain" aria-label={`Remove: ${text}`} onClick={() => explorer.change(without)}>
            ✕
          </button>
        </li>
      ))}
      <li class="bare">
        <button type="button" onClick={() => explorer.clear()}>
          Clear all
        </button>
      </li>
    </ul>
  );
}
