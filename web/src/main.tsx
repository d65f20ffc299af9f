// The report: unpack the data and draw the page.
import { render } from "preact";
import { App } from "./App";
import { followAddress } from "./page/state";
import { followTheme } from "./page/theme";
import "./styles/index.css";
import { unpack } from "./unpack";

function openDetailsForPrint(): void {
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
}

/** The section that an address leads to: the one it names, or the one whose state it holds. */
function sectionOf(hash: string): string {
  if (!hash.includes("=")) return hash.slice(1);
  return /^#tokens=/.test(hash) ? "tokens" : "responses";
}

async function start(): Promise<void> {
  const root = document.getElementById("page")!;
  try {
    const data = await unpack(document.getElementById("data")!);
    document.title = data.title;
    followTheme();
    followAddress();
    openDetailsForPrint();
    root.replaceChildren();
    render(<App data={data} />, root);
    document.getElementById(sectionOf(location.hash))?.scrollIntoView();
  } catch (error) {
    document.getElementById("state")!.textContent =
      `This page could not show its data (${(error as Error).message}). It needs a browser from 2024 or later.`;
  }
}

void start();
