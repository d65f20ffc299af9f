// The state of the page that an address can hold: the example shown, filters, search, order and the rest.
//
// `pageState` is one signal for all sections. `location.hash` follows it, and it follows `location.hash`:
//   #example=p7&search=rain&f.domain=odd,even&order=length,down        the state
//   #training                                                          a section alone
import { signal } from "@preact/signals";

/** Facet → chosen values. A row passes if each facet has one of its chosen values; an empty list does not filter. */
export type Filter = Record<string, string[]>;

export interface PageState {
  filter: Filter;
  /** Everything else by name: "example", "search", "sort", "left", "right", … Empty values are left out. */
  values: Record<string, string>;
}

export const EMPTY: PageState = { filter: {}, values: {} };

export const pageState = signal<PageState>(EMPTY);

const LIST = "f.";

/** Encode a state as the text after `#`. Equal states have equal texts. */
export function encodeState(state: PageState): string {
  const parts: string[] = [];
  for (const name of Object.keys(state.values).sort()) {
    const value = state.values[name];
    if (value !== "") parts.push(`${encode(name)}=${encode(value)}`);
  }
  for (const facet of Object.keys(state.filter).sort()) {
    const values = state.filter[facet];
    if (values.length) parts.push(`${LIST}${encode(facet)}=${values.map((value) => encode(value).replaceAll(",", "%2C")).join(",")}`);
  }
  return parts.join("&");
}

/** Encode what would end a part of the address; half of a surrogate pair cannot be encoded and is replaced. */
function encode(text: string): string {
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, "\ufffd")).replace(/%(2C|40|3A|2F|3E)/g, decodeURIComponent);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that cannot be decoded is used as it is
  }
}

/** Decode the text after `#`. A text without `=` names a section and holds no state. */
export function decodeState(hash: string): PageState {
  const state: PageState = { filter: {}, values: {} };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 1) continue;
    const [name, value] = [part.slice(0, at), part.slice(at + 1)];
    if (name.startsWith(LIST)) own(state.filter, decode(name.slice(LIST.length)), value.split(",").map(decode));
    else own(state.values, decode(name), decode(value));
  }
  return state;
}

/** Set a key as the object's own, also one named __proto__. */
function own<T>(record: Record<string, T>, key: string, value: T): void {
  Object.defineProperty(record, key, { value, enumerable: true, configurable: true, writable: true });
}

/** Change values of the state; "" removes one. */
export function setValues(values: Record<string, string>): void {
  pageState.value = { ...pageState.value, values: prune({ ...pageState.value.values, ...values }) };
}

/** Choose the values of one facet; [] removes the facet. */
export function setFacet(facet: string, values: string[]): void {
  const filter = { ...pageState.value.filter, [facet]: values };
  if (!values.length) delete filter[facet];
  pageState.value = { ...pageState.value, filter };
}

/** Show the rows of a filter, and no other: the rows behind a number. */
export function showRows(filter: Filter, values: Record<string, string> = {}): void {
  pageState.value = { filter, values: prune(values) };
  document.getElementById("responses")?.scrollIntoView();
}

function prune(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

/** Keep the address and the state together. Call once, before the page is drawn. */
export function followAddress(): void {
  const read = () => {
    if (location.hash.includes("=") && location.hash !== `#${encodeState(pageState.value)}`)
      pageState.value = decodeState(location.hash);
  };
  read();
  window.addEventListener("hashchange", read);
  let first = true;
  pageState.subscribe((state) => {
    // The address of a section stays until the state changes.
    if (first) {
      first = false;
      return;
    }
    const text = encodeState(state);
    if (location.hash !== `#${text}`) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  });
}
