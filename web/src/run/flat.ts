// Nested facts as rows of a table.

/** Flatten a nested value into [dotted name, text] pairs. */
export function flat(value: unknown, name = ""): [string, string][] {
  if (value === null || value === undefined) return [[name, "none"]];
  if (typeof value !== "object") return [[name, String(value)]];
  const inner = Object.entries(value);
  if (!inner.length) return [[name, "none"]];
  return inner.flatMap(([key, item]) => flat(item, name ? `${name}.${key}` : key));
}

export type Row = Record<string, unknown>;

/** Whether a value is a list of records, which can be a table of its own. */
export function isTable(value: unknown): value is Row[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((row) => row !== null && typeof row === "object" && !Array.isArray(row))
  );
}

export function cellText(item: unknown): string {
  if (item === null || item === undefined) return "none";
  if (typeof item === "number") return item.toLocaleString("en");
  return typeof item === "object" ? JSON.stringify(item) : String(item);
}
