// The contents of the page: links to its sections; the one in view is marked.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ThemeSwitch } from "./ThemeSwitch";

export interface Entry {
  id: string;
  title: string;
}

export function Contents({ entries }: { entries: readonly Entry[] }) {
  const current = useSignal("");
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
      <nav id="contents" aria-label="Contents">
        {entries.map(({ id, title }) => (
          <a href={`#${id}`} aria-current={current.value === id ? "location" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      <ThemeSwitch />
    </div>
  );
}
