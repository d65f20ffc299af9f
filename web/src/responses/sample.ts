// Random choices that a seed repeats.

/** Mix a text into a 32-bit number (FNV-1a with a final avalanche). */
export function hash32(text: string, seed = 0): number {
  let h = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export interface Sample {
  seed: number;
  size: number;
}

/**
 * Return `size` of these rows. An id has one place for a seed, whatever else is in the set: the same seed and the same
 * set give the same rows, and a larger sample contains the smaller one.
 */
export function drawSample(rows: readonly number[], ids: readonly string[], sample: Sample): number[] {
  if (rows.length <= sample.size) return [...rows];
  const seed = hash32(String(sample.seed));
  const keyed = rows.map((row): [number, number] => [hash32(ids[row] ?? "", seed), row]);
  keyed.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const kept = new Set(keyed.slice(0, sample.size).map(([, row]) => row));
  return rows.filter((row) => kept.has(row));
}

/** Return the places 0 … count - 1 in an order that the seed and the text give. */
export function shuffled(count: number, seed: number, text: string): number[] {
  const key = (i: number) => hash32(`${text}\u0000${i}`, hash32(String(seed)));
  return Array.from({ length: count }, (_, i) => i).sort((a, b) => key(a) - key(b) || a - b);
}
