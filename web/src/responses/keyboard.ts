// Keys of the explorer.

import type { Explorer } from "./explorer";

/** Keys and what they do, as the help lists them. */
export const KEYS: [string, string][] = [
  ["j", "next example"],
  ["k", "previous example"],
  ["r", "an example at random"],
  ["/", "search"],
  ["d", "compare two responses word by word, or stop"],
  ["b", "hide which policy wrote what, or show it"],
  ["m", "show Markdown, or plain text"],
  ["n", "write a note"],
  ["?", "these keys"],
];

/** What keys do that is the page's and not the explorer's. */
export interface Places {
  search: () => void;
  note: () => void;
  help: () => void;
}

/** Compare the last pair of policies, or the first two; stop where a comparison is shown. */
export function toggleDiff(explorer: Explorer): void {
  const modes = explorer.modes.peek();
  const { pairs, policies } = explorer.corpus;
  const last = pairs[pairs.length - 1];
  const left = last?.left ?? policies[0];
  const right = last?.right ?? policies[1];
  const diff = modes.diff || left === undefined || right === undefined ? null : { left, right, unit: "word" as const };
  explorer.change({ modes: { ...modes, diff } });
}

/** Handle a key. Keys typed into a field, or with Ctrl, Alt or the command key, are left alone. */
export function press(event: KeyboardEvent, explorer: Explorer, places: Places): void {
  const target = event.target as Element | null;
  const isTyping = target?.closest?.("input:not([type=checkbox]), select, textarea, dialog, [contenteditable]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const modes = explorer.modes.peek();
  const actions: Record<string, () => void> = {
    j: () => explorer.step(1),
    k: () => explorer.step(-1),
    r: () => explorer.random(),
    d: () => toggleDiff(explorer),
    b: () => explorer.change({ modes: { ...modes, blind: !modes.blind } }),
    m: () => explorer.change({ modes: { ...modes, markdown: !modes.markdown } }),
    "/": places.search,
    n: places.note,
    "?": places.help,
  };
  const action = Object.hasOwn(actions, event.key) ? actions[event.key] : undefined;
  if (!action) return;
  event.preventDefault();
  action();
}
