// The explorer: what is found, in which order, and which example is shown. Components read its signals.

import { computed, effect, signal } from "@preact/signals";
import { pageState } from "../page/state";
import { fromPage, NO_MODES, START, type State, toPage } from "./address";
import { facetsOf } from "./facets";
import { applyFilter, type Filter, type Index, known } from "./filter";
import { measuresOf } from "./measures";
import { fingerprint, loadNotes, type Notes, saveNotes, type Storage, withNote } from "./notes";
import type { Range } from "../page/segments";
import { FIRST_ORDER, type Order, ordered } from "./order";
import { RegexSearcher, TooSlow } from "./regex_worker";
import { type Corpus, type Example, responseOf } from "./rows";
import { shuffled } from "./sample";
import {
  compile,
  type Field,
  fieldsOf,
  fieldsOfScope,
  findText,
  lowerCased,
  type Search,
  textRanges,
} from "./search";

/** The text of a response as it is shown: its name and colour are hidden in blind mode. */
export interface Shown {
  policy: string;
  /** Place of the policy in the corpus. */
  place: number;
  name: string;
}

function browserStorage(): Storage | null {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

export class Explorer {
  readonly index: Index;
  readonly ids: Map<string, number>;
  readonly print: string;
  readonly notes = signal<Notes>({});
  /** Whether the browser keeps the notes. */
  readonly keepsNotes = signal(true);
  /** What is wrong with the search, in words. */
  readonly searchMessage = signal("");

  private readonly storage = browserStorage();
  private readonly regexHits = signal<Uint8Array | null>(null);
  /** The search whose expression has run to its end: only then is it safe to look for the places of its hits. */
  private readonly searched = signal<Search | null>(null);
  private readonly regexMarks = signal<ReadonlyMap<string, Range[]>>(new Map());
  private fieldCache: Field[] | null = null;
  private lowerCache: Field[] | null = null;
  private readonly searcher = new RegexSearcher(() => this.fields());

  constructor(
    readonly corpus: Corpus,
    /** The example that the page wants to show first. */
    private readonly first: string | null,
  ) {
    this.index = { corpus, facets: facetsOf(corpus), measures: measuresOf(corpus) };
    this.ids = new Map(corpus.examples.map((example, row) => [example.id, row]));
    this.print = fingerprint(corpus);
    this.notes.value = loadNotes(this.storage, this.print);
    effect(() => this.runExpression(this.search.value));
    effect(() => this.markExpression(this.searched.value, this.example.value));
  }

  private readonly parsed = computed(() => {
    const { state, ignored } = fromPage(pageState.value);
    const { filter, unknown } = known(this.index, state.filter);
    const isOrder = !state.order || state.order.by === "index" || this.measure(state.order.by) !== undefined;
    const { policies } = this.corpus;
    const { diff } = state.modes;
    const isDiff = !diff || (policies.includes(diff.left) && policies.includes(diff.right));
    const missing = state.selected !== null && !this.ids.has(state.selected);
    return {
      state: {
        ...state,
        filter,
        order: isOrder ? state.order : null,
        selected: missing ? null : state.selected,
        modes: isDiff ? state.modes : { ...state.modes, diff: null },
      },
      ignored: [
        ...ignored,
        ...unknown,
        ...(isOrder ? [] : [`order by ${state.order?.by}`]),
        ...(isDiff ? [] : ["comparison of responses"]),
        ...(missing ? [`example ${state.selected}`] : []),
      ],
    };
  });

  readonly state = computed(() => this.parsed.value.state);
  /** Parts of the address that this page does not have. */
  readonly ignored = computed(() => this.parsed.value.ignored);
  readonly modes = computed(() => this.state.value.modes);
  readonly order = computed((): Order => this.state.value.order ?? FIRST_ORDER);
  // Equal searches keep one identity, so that moving to another example does not search again.
  private lastSearch: Search = START.search;
  readonly search = computed((): Search => {
    const next = this.state.value.search;
    const last = this.lastSearch;
    const same = next.text === last.text && next.scope === last.scope && next.isRegex === last.isRegex;
    if (!same) this.lastSearch = next;
    return this.lastSearch;
  });
  private lastFilter: Filter = START.filter;
  private readonly filter = computed((): Filter => {
    const next = this.state.value.filter;
    if (JSON.stringify(next) !== JSON.stringify(this.lastFilter)) this.lastFilter = next;
    return this.lastFilter;
  });

  private readonly hits = computed((): Uint8Array | null => {
    const { text, isRegex, scope } = this.search.value;
    if (!text.trim()) return null;
    if (scope === "note") return this.noteHits(text, this.notes.value);
    if (isRegex) return this.regexHits.value;
    return findText(this.lowered(), fieldsOfScope(scope, this.corpus.policies), text);
  });

  readonly found = computed(() => applyFilter(this.index, this.filter.value, this.hits.value));
  readonly rows = computed(() => ordered(this.found.value.rows, this.index.measures, this.order.value));
  /** Row of the example that is shown; null where none is found. */
  readonly current = computed((): number | null => {
    const rows = this.rows.value;
    const wanted = this.state.value.selected ?? this.first;
    const row = wanted === null ? undefined : this.ids.get(wanted);
    return row !== undefined && rows.includes(row) ? row : (rows[0] ?? null);
  });
  readonly example = computed((): Example | null => this.corpus.examples[this.current.value ?? -1] ?? null);

  change(patch: Partial<State>): void {
    pageState.value = toPage({ ...this.state.peek(), ...patch }, pageState.peek());
  }

  changeFilter(patch: Partial<Filter>): void {
    this.change({ filter: { ...this.state.peek().filter, ...patch } });
  }

  /** Choose a value of a facet, or take it back. */
  toggle(facet: string, value: string): void {
    const { facets } = this.state.peek().filter;
    const chosen = facets[facet] ?? [];
    const next = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    const others = Object.entries(facets).filter(([key]) => key !== facet);
    this.changeFilter({ facets: Object.fromEntries(next.length ? [...others, [facet, next]] : others) });
  }

  clear(): void {
    this.change({ filter: START.filter, search: START.search });
  }

  reset(): void {
    this.change({ ...START, modes: NO_MODES });
  }

  show(row: number | undefined): void {
    const example = row === undefined ? undefined : this.corpus.examples[row];
    if (example) this.change({ selected: example.id });
  }

  /** Show the example `by` places further in the list. */
  step(by: number): void {
    const rows = this.rows.peek();
    this.show(rows[rows.indexOf(this.current.peek() ?? -1) + by]);
  }

  /** Show an example of the list at random. */
  random(): void {
    const others = this.rows.peek().filter((row) => row !== this.current.peek());
    this.show(others[Math.floor(Math.random() * others.length)]);
  }

  measure(key: string) {
    return this.index.measures.find((measure) => measure.key === key);
  }

  /** Return the responses to an example in the order in which they are shown. */
  shown(example: Example): Shown[] {
    const { policies } = this.corpus;
    const present = policies.flatMap((policy, place) =>
      responseOf(example, policy) ? [{ policy, place, name: policy }] : [],
    );
    if (!this.modes.value.blind) return present;
    return shuffled(present.length, 1, example.id).map((at, i) => ({
      ...(present[at] as Shown),
      name: `Response ${i + 1}`,
    }));
  }

  /** Return where the search matches a text. `field` is prompt, id, or a policy. */
  marks(text: string, field: string): Range[] {
    const { text: needle, isRegex, scope } = this.search.value;
    if (!needle.trim() || scope === "note") return [];
    const place = field === "id" ? 0 : field === "prompt" ? 1 : this.corpus.policies.indexOf(field) + 2;
    if (!fieldsOfScope(scope, this.corpus.policies).includes(place)) return [];
    return isRegex ? (this.regexMarks.value.get(text) ?? []) : textRanges(text, needle);
  }

  note(id: string, text: string, tags: string[]): void {
    this.replaceNotes(withNote(this.notes.peek(), id, text, tags, new Date().toISOString()));
  }

  replaceNotes(notes: Notes): void {
    this.notes.value = notes;
    this.keepsNotes.value = saveNotes(this.storage, this.print, notes);
  }

  /** Lower-case all texts ahead of the first search. */
  warm(): void {
    this.lowered();
  }

  private fields(): Field[] {
    this.fieldCache ??= fieldsOf(this.corpus);
    return this.fieldCache;
  }

  private lowered(): Field[] {
    this.lowerCache ??= lowerCased(this.fields());
    return this.lowerCache;
  }

  private noteHits(text: string, notes: Notes): Uint8Array {
    const needle = text.trim().toLowerCase();
    return Uint8Array.from(this.corpus.examples, ({ id }) => {
      const note = notes[id];
      return Number(note ? `${note.text}\n${note.tags.join("\n")}`.toLowerCase().includes(needle) : false);
    });
  }

  private runExpression(search: Search): void {
    this.searchMessage.value = "";
    if (!search.isRegex || !search.text.trim() || search.scope === "note") {
      this.regexHits.value = null;
      return;
    }
    const { flags, message } = compile(search.text);
    if (message) {
      this.regexHits.value = null;
      this.searchMessage.value = message;
      return;
    }
    const places = fieldsOfScope(search.scope, this.corpus.policies);
    this.searcher.find(search.text, flags, places).then(
      (hits) => {
        if (this.search.peek() !== search) return;
        this.regexHits.value = hits;
        this.searched.value = search;
      },
      (error: unknown) => {
        if (this.search.peek() !== search) return;
        this.regexHits.value = null;
        this.searchMessage.value =
          error instanceof TooSlow
            ? "This expression takes too long on these texts and was stopped. Use one with fewer repetitions."
            : `Regular expressions cannot run here: ${error instanceof Error ? error.message : String(error)}`;
      },
    );
  }

  private markExpression(search: Search | null, example: Example | null): void {
    if (!search || search !== this.search.peek() || !example) return;
    const { flags } = compile(search.text);
    const texts = [
      example.id,
      ...example.messages.map((turn) => turn.content),
      ...example.responses.map((response) => response.text),
    ];
    this.searcher.ranges(search.text, flags, texts).then(
      (ranges) => {
        if (this.search.peek() === search) this.regexMarks.value = new Map(texts.map((text, i) => [text, ranges[i] ?? []]));
      },
      () => undefined, // the search itself reports what went wrong
    );
  }
}
