// The reader's note and tags for one example. They stay in this browser.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Explorer } from "./explorer";
import { splitTags, tagCounts } from "./notes";
import type { Example } from "./rows";

/** Milliseconds after the last key before a note is kept. */
const PAUSE = 250;

export function NoteEditor({ explorer, example }: { explorer: Explorer; example: Example }) {
  const kept = explorer.notes.value[example.id];
  const text = useSignal(kept?.text ?? "");
  const tags = useSignal((kept?.tags ?? []).join(", "));
  const dirty = useSignal(false);
  const save = () => {
    if (!dirty.peek()) return;
    dirty.value = false;
    explorer.note(example.id, text.peek(), splitTags(tags.peek()));
  };
  useEffect(() => {
    if (!dirty.value) return;
    const timer = setTimeout(save, PAUSE);
    return () => clearTimeout(timer);
  }, [text.value, tags.value, dirty.value]);
  // Moving to another example must not lose what was typed last.
  useEffect(() => save, []);
  const edit = (field: typeof text, value: string) => {
    field.value = value;
    dirty.value = true;
  };
  return (
    <div class="note-editor card">
      <label>
        Note
        <textarea
          id="example-note"
          rows={2}
          value={text.value}
          placeholder="kept in this browser"
          onInput={(event) => edit(text, event.currentTarget.value)}
          onBlur={save}
        />
      </label>
      <label>
        Tags, separated by commas
        <input
          list="known-tags"
          value={tags.value}
          onInput={(event) => edit(tags, event.currentTarget.value)}
          onBlur={save}
        />
        <datalist id="known-tags">
          {tagCounts(explorer.notes.value).map(([tag]) => (
            <option value={tag} />
          ))}
        </datalist>
      </label>
      {explorer.keepsNotes.value ? null : (
        <p class="message" role="alert">
          This browser does not keep notes for this page. Export them before you close it.
        </p>
      )}
    </div>
  );
}
