// The choice of light, dark, or as the system says.
import { theme, type Theme } from "./theme";

const CHOICES: readonly [Theme, string, string][] = [
  ["system", "◐", "as the system"],
  ["light", "☀", "light"],
  ["dark", "☾", "dark"],
];

export function ThemeSwitch() {
  return (
    <div class="themes" role="group" aria-label="Colours">
      {CHOICES.map(([name, sign, words]) => (
        <button
          type="button"
          aria-pressed={theme.value === name}
          aria-label={`Colours: ${words}`}
          title={`Colours: ${words}`}
          onClick={() => {
            theme.value = name;
          }}
        >
          {sign}
        </button>
      ))}
    </div>
  );
}
