// Find a prompt: search, filters, order, keyboard shortcuts and links.
import { computed, signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Example, PageData, Pair, Response as Answer } from "../contract";
import { number, percent } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { Section } from "../page/Section";
import { pageState, setFacet, setValues } from "../page/state";
import { Prose, VisibleText } from "../page/VisibleText";

const flagName = (flag: string) => (flag === "cap_hit" ? "truncated" : flag.replaceAll("_", " "));
const asked = (example: Example) => [...example.messages].reverse().find((m) => m.role === "user")?.content ?? "";
const search = signal("");

export function Responses({ data }: { data: PageData }) {
  const { examples, flags } = data;
  const { policies, pairs, judges } = data.summary!;
  const haystacks = useMemo(
    () =>
      new Map(
        examples.map((example) => [
          example,
          [...example.messages.map((m) => m.content), ...example.responses.map((a) => a.text), example.id]
            .join("\n")
            .toLowerCase(),
        ]),
      ),
    [examples],
  );
  const carries = (example: Example, value: string) => {
    const [flag, policy] = value.split("@");
    return example.responses.some((a) => (!policy || a.policy === policy) && a.flags.includes(flag));
  };
  const outcome = (example: Example, { left, right }: Pair) => {
    const of = (name: string) => example.responses[policies.indexOf(name)].reward ?? 0;
    const gap = of(right) - of(left);
    return Math.abs(gap) <= data.summary!.tie_epsilon ? "tie" : gap > 0 ? "win" : "loss";
  };
  const passes = (example: Example) =>
    Object.entries(pageState.value.filter).every(([facet, values]) =>
      values.some((value) => {
        if (facet === "domain") return example.domain === value;
        if (facet === "winner") return value === "none" ? example.winner === null : `=${example.winner}` === value;
        if (facet === "flag") return carries(example, value);
        const pair = pairs.find((one) => facet === `pair@${one.left}>${one.right}`);
        return !pair || outcome(example, pair) === value;
      }),
    );
  const difference = (example: Example, pair: Pair, measure: string): number | null => {
    const of = (name: string) => {
      const response = example.responses[policies.indexOf(name)];
      return measure === "" ? response.reward : response.scores[measure];
    };
    const [left, right] = [of(pair.left), of(pair.right)];
    return left === null || right === null ? null : right - left;
  };
  const order = () => {
    const [index, way, measure] = (pageState.value.values.order ?? "").split("|");
    return index ? { pair: pairs[Number(index)], way: Number(way), measure } : null;
  };
  const found = useMemo(
    () =>
      computed(() => {
        const words = search.value.trim().toLowerCase();
        const rows = examples.filter((e) => passes(e) && (!words || haystacks.get(e)!.includes(words)));
        const by = order();
        if (!by?.pair) return rows;
        const key = new Map(rows.map((example) => [example, difference(example, by.pair, by.measure)]));
        return rows.sort((a, b) => {
          const [x, y] = [key.get(a) ?? null, key.get(b) ?? null];
          return x === null || y === null ? Number(x === null) - Number(y === null) : by.way * (x - y);
        });
      }),
    [examples],
  );
  const current = found.value.find((e) => e.id === pageState.value.values.example) ?? found.value[0];
  const show = (example: Example | undefined) => example && setValues({ example: example.id });
  const step = (by: number) => show(found.value[found.value.indexOf(current) + by]);
  const random = () => {
    const others = found.value.filter((example) => example !== current);
    show(others[Math.floor(Math.random() * others.length)]);
  };
  const keys = useRef<Record<string, () => void>>({});
  keys.current = {
    j: () => step(1),
    k: () => step(-1),
    r: random,
    "/": () => document.querySelector<HTMLInputElement>(".tools input[type=search]")?.focus(),
  };
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const typing = (event.target as Element).closest?.("input, select, textarea");
      const act = keys.current[event.key];
      if (typing || !act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
  const shown = pageState.value.filter;
  const place = found.value.indexOf(current);
  const tally = (test: (example: Example) => boolean) => examples.filter(test).length;
  const select = (label: string, facet: string, options: [string, string][]) => (
    <label>
      {label}
      <select value={shown[facet]?.[0] ?? ""} onChange={(e) => setFacet(facet, e.currentTarget.value ? [e.currentTarget.value] : [])}>
        <option value="">any</option>
        {options.map(([value, text]) => (
          <option value={value}>{text}</option>
        ))}
      </select>
    </label>
  );
  const flagOptions = ["", ...policies].flatMap((policy) =>
    Object.keys(flags)
      .map((flag): [string, string] => [policy ? `${flag}@${policy}` : flag, flagName(flag)])
      .map(([value, name]): [string, string, number] => [value, policy ? `${policy}: ${name}` : name, tally((e) => carries(e, value))])
      .filter(([, , count]) => count)
      .map(([value, name, count]): [string, string] => [value, `${name} (${count})`]),
  );
  return (
    <Section id="responses" title="Responses">
      <div class="card tools" role="search">
        <label class="grow">
          Search
          <input type="search" placeholder="words in prompts and responses" onInput={(e) => (search.value = e.currentTarget.value)} />
        </label>
        {select("Domain", "domain", Object.entries(data.summary!.domains).map(([name, count]) => [name, `${name || "(none)"} (${count})`]))}
        {select("Best response", "winner", [
          ...policies.map((name): [string, string] => [`=${name}`, `${name} (${tally((e) => e.winner === name)})`]),
          ["none", `no single best (${tally((e) => e.winner === null)})`],
        ])}
        {select("Flag", "flag", flagOptions)}
        <label>
          Order
          <select value={pageState.value.values.order ?? ""} onChange={(e) => setValues({ order: e.currentTarget.value })}>
            <option value="">as evaluated</option>
            {["", ...judges].flatMap((measure) =>
              [...pairs.entries()].reverse().flatMap(([i, pair]) =>
                [-1, 1].map((way) => (
                  <option value={`${i}|${way}|${measure}`}>
                    {measure || "reward"}: {pair.right} − {pair.left}, {way < 0 ? "highest" : "lowest"} first
                  </option>
                )),
              ),
            )}
          </select>
        </label>
        <button
          type="button"
          onClick={() => {
            search.value = "";
            pageState.value = { filter: {}, values: {} };
          }}
        >
          Clear
        </button>
      </div>
      <div class="reader">
        <ol class="card rail" aria-label="Prompts found">
          {found.value.map((example) => (
            <li>
              <button
                type="button"
                data-id={example.id}
                aria-current={example === current ? "true" : undefined}
                onClick={() => show(example)}
              >
                <span>
                  <VisibleText text={asked(example)} />
                </span>
              </button>
            </li>
          ))}
        </ol>
        <div>
          <div class="bar">
            <button type="button" disabled={place <= 0} onClick={() => step(-1)}>
              ← Previous
            </button>
            <button type="button" disabled={place >= found.value.length - 1} onClick={() => step(1)}>
              Next →
            </button>
            <button type="button" disabled={found.value.length < 2} onClick={random}>
              Random
            </button>
            <span role="status" class="muted">
              {current ? `${place + 1} of ${found.value.length}` : "nothing found"}
            </span>
          </div>
          {current ? (
            <ExampleView data={data} example={current} needle={search.value.trim()} />
          ) : (
            <p class="muted">No prompt matches these filters. Clear them to see all.</p>
          )}
        </div>
      </div>
    </Section>
  );
}

function ExampleView({ data, example, needle }: { data: PageData; example: Example; needle: string }) {
  const facts = [example.domain, example.language].filter(Boolean).join(" · ");
  return (
    <>
      <p class="small">
        <a href={`#example=${encodeURIComponent(example.id)}`} title="A link to this prompt">
          <VisibleText text={example.id} />
        </a>
        {facts ? ` · ${facts}` : ""}
      </p>
      {example.messages.map((message) => (
        <div class="turn">
          <div class="role">{message.role}</div>
          <Prose text={message.content} needle={needle} language={example.language} />
        </div>
      ))}
      <div class="columns">
        {example.responses.map((response, i) => (
          <ResponseCard data={data} example={example} response={response} index={i} needle={needle} />
        ))}
      </div>
    </>
  );
}

function ResponseCard(props: { data: PageData; example: Example; response: Answer; index: number; needle: string }) {
  const { data, example, response, index, needle } = props;
  const chip = (name: string, value: string) => (
    <li>
      {name} <b>{value}</b>
    </li>
  );
  return (
    <article class={`card response ${tint(index)}`} aria-label={`Response of ${response.policy}`}>
      <h4>
        <PolicyName name={response.policy} policies={data.summary!.policies} />
        {example.winner === response.policy ? <span class="best">best reward</span> : null}
      </h4>
      <ul class="chips">
        {chip("reward", number(response.reward, 3, true))}
        {data.summary!.judges.map((judge) => chip(judge, number(response.scores[judge], 3, true)))}
        {response.tokens === null ? null : chip("tokens", String(response.tokens))}
        {response.stop === null || response.flags.includes("cap_hit") ? null : (
          <li>{response.stop === "length" ? flagName("cap_hit") : "ended"}</li>
        )}
        {response.repeated_4grams > 0 ? chip("repeated 4-grams", percent(response.repeated_4grams, 0)) : null}
        {response.flags.map((name) => (
          <li class={name === "qualified_win" ? "flag good" : "flag"} title={data.flags[name]}>
            {flagName(name)}
            {name === "loop" ? ` × ${response.loop}` : null}
          </li>
        ))}
      </ul>
      <Prose text={response.text} needle={needle} language={example.language} />
    </article>
  );
}
