// Search of prompts, responses and ids for words or a regular expression.

import type { Range } from "../page/segments";
import { type Corpus, responseOf } from "./rows";

export interface Search {
  text: string;
  isRegex: boolean;
  /** all, prompt, id, note, response, or response@policy. */
  scope: string;
}

export const NO_SEARCH: Search = { text: "", isRegex: false, scope: "all" };

/** Texts of one field, one per example. */
export type Field = string[];

/** The texts of a corpus by field: id, prompt, then one field per policy. */
export function fieldsOf(corpus: Corpus): Field[] {
  const { examples, policies } = corpus;
  return [
    examples.map((example) => example.id),
    examples.map((example) => example.messages.map((message) => message.content).join("\n")),
    ...policies.map((policy) => examples.map((example) => responseOf(example, policy)?.text ?? "")),
  ];
}

/** Return the places of the fields that a scope reads. */
export function fieldsOfScope(scope: string, policies: readonly string[]): number[] {
  const responses = policies.map((_, i) => i + 2);
  if (scope === "id") return [0];
  if (scope === "prompt") return [1];
  if (scope === "response") return responses;
  if (scope.startsWith("response@")) {
    const place = policies.indexOf(scope.slice("response@".length));
    return place < 0 ? [] : [place + 2];
  }
  return scope === "note" ? [] : [1, ...responses, 0];
}

/** Return the scopes that a corpus has, with their labels. */
export function scopesOf(policies: readonly string[]): [string, string][] {
  const each = policies.map((policy): [string, string] => [`response@${policy}`, `responses of ${policy}`]);
  return [
    ["all", "prompts, responses, ids"],
    ["prompt", "prompts"],
    ["response", "all responses"],
    ...(policies.length > 1 ? each : []),
    ["id", "ids"],
    ["note", "my notes and tags"],
  ];
}

/** Lower-case the fields once, so that each search is a scan for one text. */
export const lowerCased = (fields: readonly Field[]): Field[] =>
  fields.map((field) => field.map((text) => text.toLowerCase()));

/** Return 1 for each example in which one of these fields contains the text. `lowered` comes from lowerCased. */
export function findText(lowered: readonly Field[], places: readonly number[], text: string): Uint8Array {
  const needle = text.trim().toLowerCase();
  const found = new Uint8Array(lowered[0]?.length ?? 0);
  for (const place of places) {
    lowered[place]?.forEach((hay, row) => {
      if (!found[row] && hay.includes(needle)) found[row] = 1;
    });
  }
  return found;
}

/** A regular expression that compiles, or why it does not. */
export type Compiled = { flags: string; message: "" } | { flags: ""; message: string };

/** Check a regular expression. Case is ignored; ^ and $ match at lines. */
export function compile(source: string): Compiled {
  let message = "";
  for (const flags of ["gimu", "gim"]) {
    try {
      new RegExp(source, flags);
      return { flags, message: "" };
    } catch (error) {
      message ||= error instanceof Error ? error.message.replace(/^Invalid regular expression: /, "") : String(error);
    }
  }
  return { flags: "", message: `This is no regular expression: ${message}` };
}

/** The most hits that are marked in one text. */
const MOST_MARKS = 2000;

/** Return where a text contains the words, ignoring case. */
export function textRanges(text: string, needle: string): Range[] {
  const literal = needle.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return literal ? regexRanges(text, literal, "giu") : [];
}

/** Return where an expression matches. Runs as long as the expression takes: for user-written ones use the worker. */
export function regexRanges(text: string, source: string, flags: string): Range[] {
  const ranges: Range[] = [];
  for (const match of text.matchAll(new RegExp(source, flags))) {
    if (match[0]) ranges.push([match.index, match.index + match[0].length]);
    if (ranges.length >= MOST_MARKS) break;
  }
  return ranges;
}
