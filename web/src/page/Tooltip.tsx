// A note beside a word: shown on hover and on focus, closed by Escape, read out with the word.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export function Tooltip({ note, children }: { note: string; children: ComponentChildren }) {
  const open = useSignal(false);
  const id = useId();
  const set = (value: boolean) => () => {
    open.value = value;
  };
  return (
    <span
      class="tip"
      onPointerEnter={set(true)}
      onPointerLeave={set(false)}
      onKeyDown={(event) => {
        if (event.key === "Escape") open.value = false;
      }}
    >
      <button type="button" class="plain" aria-describedby={open.value ? id : undefined} onFocus={set(true)} onBlur={set(false)}>
        {children}
      </button>
      {open.value ? (
        <span role="tooltip" id={id} class="note">
          {note}
        </span>
      ) : null}
    </span>
  );
}
