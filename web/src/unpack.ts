// Read the data of the page: gzip in base64 inside a script element that never runs.
import type { PageData } from "./contract";

export async function unpack(node: HTMLElement): Promise<PageData> {
  const packed = atob((node.textContent ?? "").trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).json()) as PageData;
}
