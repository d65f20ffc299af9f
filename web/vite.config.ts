import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const page = process.env.HARKEN_PAGE ?? "explorer";
const entry = process.env.HARKEN_ENTRY ?? "src/main.tsx";
const out = process.env.HARKEN_ASSETS ?? "../src/harken/explorer/static";

/** Preact can set markup from a property. The pages never do, and the built script cannot: such markup becomes text. */
const markupAsText = {
  name: "markup-as-text",
  enforce: "pre" as const,
  transform(code: string, id: string) {
    if (!/[\\/]preact[\\/]dist[\\/]preact(\.module)?\.m?js/.test(id)) return null;
    if (!code.includes(".innerHTML")) throw new Error(`${id}: no innerHTML found; look at the new version of preact`);
    return { code: code.replaceAll(".innerHTML", ".textContent"), map: null };
  },
};

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  plugins: [markupAsText],
  define: { "process.env.NODE_ENV": '"production"' },
  build: {
    outDir: fileURLToPath(new URL(out, import.meta.url)),
    emptyOutDir: false,
    target: "es2022",
    cssTarget: "chrome123",
    reportCompressedSize: false,
    modulePreload: false,
    lib: {
      entry: fileURLToPath(new URL(entry, import.meta.url)),
      formats: ["iife"],
      name: "harken",
      fileName: () => `${page}.js`,
      cssFileName: page,
    },
  },
  test: { include: ["src/**/*.test.ts", "test/**/*.test.ts"], environment: "node", testTimeout: 60_000 },
} as Parameters<typeof defineConfig>[0]);
