// Examples of a split page lie in files beside it. A page from the disk may not fetch; a classic script may be loaded.
import type { PageData } from "./contract";

type Examples = PageData["examples"];

/** Load the examples of every part, in order. Rejects with a sentence for the reader if a file is missing. */
export async function loadParts(names: string[]): Promise<Examples> {
  const parts = await Promise.all(names.map(loadPart));
  return parts.flat();
}

function loadPart(name: string): Promise<Examples> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = name;
    script.onload = () => {
      script.remove();
      const pushed = (window as { harkenShards?: [string, string][] }).harkenShards ?? [];
      const found = pushed.findIndex(([own]) => own === name);
      if (found < 0) reject(new Error(`the file ${name} does not hold the part of that name`));
      else resolve(JSON.parse(pushed.splice(found, 1)[0][1]) as Examples);
    };
    script.onerror = () => reject(new Error(`the file ${name} is not beside this page; keep both together`));
    document.head.append(script);
  });
}
