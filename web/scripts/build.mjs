// Build the two pages: explorer (the report) and review, each one script and one style sheet without modules.
import { build } from "vite";

for (const [name, entry] of [
  ["explorer", "src/main.tsx"],
  ["review", "src/review/main.tsx"],
]) {
  process.env.HARKEN_PAGE = name;
  process.env.HARKEN_ENTRY = entry;
  await build();
}
