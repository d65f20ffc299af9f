// The examples of the current filter as a file: CSV, JSON or Markdown, each with its origin.

import type { Notes } from "./notes";
import type { Corpus, Example, Response } from "./rows";

/** Where the rows of a file come from. */
export interface Provenance {
  report: string;
  /** Fingerprint of the examples of the page. */
  fingerprint: string;
  /** Version of the page's data. */
  schema: number;
  /** Harken's version and the time when the page was made, where the page says them. */
  harken: string;
  made: string;
  /** Hashes and versions of models and data that the page names. */
  lineage: string[];
  filter: string;
  order: string;
  examples: number;
  of: number;
  exported: string;
  address: string;
}

type Cell = string | number | boolean | null;

/** Collect what the facts of the stages say about hashes, revisions and versions. */
export function lineageOf(stages: readonly { name: string; facts: unknown }[]): string[] {
  const found: string[] = [];
  const visit = (value: unknown, name: string, depth: number) => {
    if (typeof value === "string" && /(sha256|hash|fingerprint|revision|version)$/i.test(name)) {
      found.push(`${name}: ${value}`);
    } else if (typeof value === "object" && value !== null && depth < 6) {
      for (const [key, inner] of Object.entries(value)) visit(inner, `${name}.${key}`, depth + 1);
    }
  };
  for (const { name, facts } of stages) visit(facts, name, 0);
  return found.slice(0, 60);
}

/** Guard a cell against being read as a formula: text that starts like one gets an apostrophe. Numbers stay. */
export function csvCell(value: Cell): string {
  if (value === null) return "";
  if (typeof value !== "string") return String(value);
  const text = /^[\s]*[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const conversation = (example: Example): string =>
  example.messages.map(({ role, content }) => `${role}: ${content}`).join("\n\n");

function responseCells(
  { judges }: Corpus,
  columns: readonly string[],
  example: Example,
  response: Response,
  notes: Notes,
): [string, Cell][] {
  return [
    ["id", example.id],
    ["domain", example.domain],
    ["language", example.language],
    ["prompt", conversation(example)],
    ["policy", response.policy],
    ["response", response.text],
    ["tokens", response.tokens],
    ["stop", response.stop],
    ["reward", response.reward],
    ...judges.map((judge): [string, Cell] => [`score_${judge}`, response.scores[judge] ?? null]),
    ["kl", response.kl ?? null],
    ["repeated_4grams", response.repeated_4grams],
    ["flags", response.flags.join(" ")],
    ["queues", example.queues.join(" ")],
    ["disagreement", example.disagreement],
    ["best_reward", example.winner],
    ...columns.map((column): [string, Cell] => [`extra_${column}`, plain(example.extra[column])]),
    ["note", notes[example.id]?.text ?? ""],
    ["tags", (notes[example.id]?.tags ?? []).join(", ")],
  ];
}

function plain(value: unknown): Cell {
  if (value === null || value === undefined) return null;
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? value
    : JSON.stringify(value);
}

/** Write one line per response. The last columns repeat where the rows come from. */
export function toCsv(corpus: Corpus, rows: readonly number[], notes: Notes, origin: Provenance): string {
  const lines: string[] = [];
  const trailing: [string, Cell][] = [
    ["report", origin.report],
    ["report_fingerprint", origin.fingerprint],
    ["report_made", origin.made],
    ["harken", origin.harken],
    ["filter", origin.filter],
    ["exported", origin.exported],
  ];
  const columns = [...new Set(corpus.examples.flatMap((example) => Object.keys(example.extra)))];
  for (const row of rows) {
    const example = corpus.examples[row] as Example;
    for (const response of example.responses) {
      const cells = [...responseCells(corpus, columns, example, response, notes), ...trailing];
      if (!lines.length) lines.push(cells.map(([name]) => csvCell(name)).join(","));
      lines.push(cells.map(([, cell]) => csvCell(cell)).join(","));
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}

/** Write the origin and the examples as JSON. */
export function toJson(corpus: Corpus, rows: readonly number[], notes: Notes, origin: Provenance): string {
  const examples = rows.map((row) => {
    const example = corpus.examples[row] as Example;
    const note = notes[example.id];
    return note ? { ...example, note } : example;
  });
  return `${JSON.stringify({ provenance: origin, policies: corpus.policies, examples }, null, 2)}\n`;
}

/** Put a text between fences that are longer than any of its own. */
function fenced(text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}

const oneLine = (text: string): string => text.replace(/\s+/g, " ").replace(/([\\`*_[\]<>#|])/g, "\\$1");

/** Write the origin and the examples as Markdown; texts stand in fences, unchanged. */
export function toMarkdown(corpus: Corpus, rows: readonly number[], notes: Notes, origin: Provenance): string {
  const head = [
    `# ${oneLine(origin.report)}`,
    "",
    `- Filter: ${oneLine(origin.filter)}`,
    `- Order: ${oneLine(origin.order)}`,
    `- Examples: ${origin.examples} of ${origin.of}, policies ${oneLine(corpus.policies.join(", "))}`,
    `- Exported: ${origin.exported}`,
    ...(origin.made ? [`- Report made: ${oneLine(origin.made)}`] : []),
    ...(origin.harken ? [`- Harken: ${oneLine(origin.harken)}`] : []),
    `- Fingerprint of the examples: ${origin.fingerprint} (data version ${origin.schema})`,
    `- Address within the report: \`#${origin.address}\``,
    ...origin.lineage.map((line) => `- ${oneLine(line)}`),
  ];
  const body = rows.flatMap((row) => {
    const example = corpus.examples[row] as Example;
    const note = notes[example.id];
    const facts = [example.domain, example.language, ...example.queues].filter(Boolean).join(", ");
    return [
      "",
      `## ${oneLine(example.id)}`,
      ...(facts ? ["", oneLine(facts)] : []),
      ...(note ? ["", `Note: ${oneLine(note.text)} ${note.tags.map((tag) => `[${oneLine(tag)}]`).join(" ")}`] : []),
      ...example.messages.flatMap(({ role, content }) => ["", `**${oneLine(role)}**`, "", fenced(content)]),
      ...example.responses.flatMap((response) => [
        "",
        `### ${oneLine(response.policy)}: ${oneLine(scoreLine(corpus, response))}`,
        "",
        fenced(response.text),
      ]),
    ];
  });
  return `${[...head, ...body].join("\n")}\n`;
}

function scoreLine(corpus: Corpus, response: Response): string {
  const parts = [
    response.reward === null ? "" : `reward ${response.reward}`,
    ...corpus.judges.map((judge) => {
      const score = response.scores[judge];
      return score === null || score === undefined ? "" : `${judge} ${score}`;
    }),
    response.tokens === null ? "" : `${response.tokens} tokens`,
    ...response.flags,
  ];
  return parts.filter(Boolean).join(", ");
}
