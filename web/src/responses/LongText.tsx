// A text that is cut where it is long, with a button that shows the rest.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { MarkdownView } from "./MarkdownView";
import { VisibleText } from "../page/VisibleText";
import type { Marks } from "../page/segments";

interface Props {
  text: string;
  language: string;
  marks?: readonly Marks[];
  markdown?: boolean;
  /** Characters shown before the button; texts a little longer are shown whole. */
  limit: number;
}

/** Cut before half of a surrogate pair. */
function cut(text: string, limit: number): string {
  const last = text.charCodeAt(limit - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit);
}

export function LongText({ text, language, marks, markdown, limit }: Props) {
  const isOpen = useSignal(false);
  useEffect(() => {
    isOpen.value = false;
  }, [text]);
  if (!text.trim()) return <p class="text muted">{text ? "(white space only)" : "(empty)"}</p>;
  const isLong = text.length > limit * 1.2;
  const shown = isLong && !isOpen.value ? cut(text, limit) : text;
  return (
    <>
      <div class={markdown ? "text markdown" : "text"} dir="auto" lang={language || undefined}>
        {markdown ? <MarkdownView text={shown} /> : <VisibleText text={shown} marks={marks} />}
        {shown.length < text.length ? <span class="muted"> …</span> : null}
      </div>
      {isLong ? (
        <button
          type="button"
          class="show-all"
          aria-expanded={isOpen.value}
          onClick={() => {
            isOpen.value = !isOpen.value;
          }}
        >
          {isOpen.value ? "Show less" : `Show all ${text.length.toLocaleString("en")} characters`}
        </button>
      ) : null}
    </>
  );
}
