// Read the data of the page: gzip in base64 inside a script element that never runs.
import type { PageData } from "./contract";
import { loadShards } from "./page/shards";

export async function unpack(node: HTMLElement): Promise<PageData> {
  const packed = atob((node.textContent ?? "").trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = (await new Response(stream).json()) as PageData;
  if (data.parts.length) data.examples = (await loadShards(data.parts)) as PageData["examples"];
  return data;
}
