// Light, dark, or as the system says. Canvas drawings read the colours of the page and are drawn again on a change.
import { computed, effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
const KEY = "harken.theme";

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return found === "light" || found === "dark" ? found : "system";
  } catch {
    return "system"; // a page from the disk may have no storage
  }
}

export const theme = signal<Theme>(typeof localStorage === "undefined" ? "system" : stored());
const systemDark = signal(false);
/** True while the page is printed: paper is light. */
export const printing = signal(false);
/** What is on the screen now. Canvases depend on it. */
export const shownTheme = computed<"light" | "dark">(() =>
  printing.value ? "light" : theme.value === "system" ? (systemDark.value ? "dark" : "light") : theme.value,
);

/** Set the theme of the document and follow the system and printing. Call once. */
export function followTheme(): void {
  const query = matchMedia("(prefers-color-scheme: dark)");
  systemDark.value = query.matches;
  query.addEventListener("change", () => {
    systemDark.value = query.matches;
  });
  window.addEventListener("beforeprint", () => {
    printing.value = true;
  });
  window.addEventListener("afterprint", () => {
    printing.value = false;
  });
  effect(() => {
    const root = document.documentElement;
    if (printing.value) root.dataset.theme = "light";
    else if (theme.value === "system") delete root.dataset.theme;
    else root.dataset.theme = theme.value;
    try {
      if (theme.value === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme.value);
    } catch {
      /* a page from the disk may have no storage: the choice lasts until it is closed */
    }
  });
}

/** The colour that a CSS variable has now, as a canvas can use it. */
export function colourOf(variable: string, host: Element = document.body): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  probe.style.display = "none";
  host.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
