// The contents of the page: links to its sections; the one in view is marked.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ThemeSwitch } from "./ThemeSwitch";

export interface Entry {
  id: string;
  title: string;
}

export function Contents({ entries }: { entries: readonly Entry[] }) {
  const current = useSignal("");
  const more = useSignal("");
  const host = useRef<HTMLElement>(null);
  const look = () => {
    const { scrollLeft, clientWidth, scrollWidth } = host.current!;
    const ends = [scrollLeft > 2 ? "start" : "", scrollLeft + clientWidth < scrollWidth - 2 ? "end" : ""];
    more.value = ends.join(" ").trim();
  };
  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, [entries]);
  // The link of the section in view is brought into the bar, which scrolls by itself.
  useEffect(() => {
    const nav = host.current!;
    const link = nav.querySelector<HTMLElement>("[aria-current]");
    if (link) nav.scrollTo({ left: link.offsetLeft - nav.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2 });
  }, [current.value]);
  useEffect(() => {
    const seen = new Map<string, boolean>();
    const observer = new IntersectionObserver(
      (changes) => {
        for (const change of changes) seen.set(change.target.id, change.isIntersecting);
        current.value = entries.find(({ id }) => seen.get(id))?.id ?? "";
      },
      { rootMargin: "-10% 0px -70% 0px" },
    );
    for (const { id } of entries) {
      const section = document.getElementById(id);
      if (section) observer.observe(section);
    }
    return () => observer.disconnect();
  }, [entries]);
  return (
    <div class="bar-top" role="region" aria-label="Contents and colours">
      <nav id="contents" aria-label="Contents" ref={host} data-more={more.value} onScroll={look}>
        {entries.map(({ id, title }) => (
          <a href={`#${id}`} aria-current={current.value === id ? "location" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {more.value.includes("end") ? (
        <button type="button" class="further" title="Further sections" onClick={() => host.current!.scrollBy({ left: host.current!.clientWidth / 2 })}>
          ›<span class="hidden">Further sections</span>
        </button>
      ) : null}
      <ThemeSwitch />
    </div>
  );
}
