// One example: the prompt, then the responses of all policies side by side, or two of them with their differences.

import { useMemo } from "preact/hooks";
import { number, percent } from "../page/numbers";
import { Dot, tint } from "../page/Policy";
import { encodeState } from "../page/state";
import type { Diff } from "./address";
import { DiffBar } from "./DiffBar";
import { difference } from "./difference";
import type { Explorer, Shown } from "./explorer";
import { LongText } from "./LongText";
import { VisibleText } from "../page/VisibleText";
import { NoteEditor } from "./NoteEditor";
import { areAllEqual, type Example, flagName, type Response, responseOf } from "./rows";
import type { Marks } from "../page/segments";

/** Characters of a prompt and of a response that are shown at once. */
const PROMPT = 1500;
const RESPONSE = 6000;

export function ExampleView({ explorer, example }: { explorer: Explorer; example: Example }) {
  const { diff } = explorer.modes.value;
  const shown = explorer.shown(example);
  return (
    <div class="example" data-id={example.id}>
      <h3 class="hidden">The example that is shown</h3>
      <Facts explorer={explorer} example={example} />
      {example.messages.map((message) => (
        <div class="turn">
          <div class="role">{message.role}</div>
          <LongText
            text={message.content}
            language={example.language}
            marks={[{ kind: "hit", ranges: explorer.marks(message.content, "prompt") }]}
            limit={PROMPT}
          />
        </div>
      ))}
      {shown.length > 1 ? <DiffBar explorer={explorer} shown={shown} /> : null}
      {diff ? (
        <Compared explorer={explorer} example={example} diff={diff} shown={shown} />
      ) : (
        <div class="columns">
          {shown.map((one) => (
            <ResponseCard key={one.policy} explorer={explorer} example={example} one={one} shown={shown} />
          ))}
        </div>
      )}
      <NoteEditor key={example.id} explorer={explorer} example={example} />
    </div>
  );
}

function Facts({ explorer, example }: { explorer: Explorer; example: Example }) {
  const columns = Object.entries(example.extra).filter(([, value]) => value !== null && value !== "");
  const facts = [example.domain, example.language].filter(Boolean).join(" · ");
  const { queues } = explorer.corpus;
  return (
    <div class="facts-line">
      <p class="small">
        <a href={`#${encodeState({ filter: {}, values: { example: example.id } })}`} title="Link to this example alone">
          <VisibleText text={example.id} marks={[{ kind: "hit", ranges: explorer.marks(example.id, "id") }]} />
        </a>
        {facts ? (
          <>
            {" · "}
            <VisibleText text={facts} />
          </>
        ) : null}
        {explorer.modes.value.blind || example.disagreement === null
          ? null
          : ` · scorers disagree by ${number(example.disagreement, 2)} SD`}
        {columns.map(([name, value]) => (
          <>
            {" · "}
            <VisibleText text={`${name.replaceAll("_", " ")}: ${String(value)}`} />
          </>
        ))}
      </p>
      {example.queues.length || areAllEqual(example) ? (
        <ul class="chips">
          {areAllEqual(example) ? <li class="flag">all responses are equal</li> : null}
          {example.queues.map((queue) => (
            <li title={queues[queue]}>queue: {flagName(queue)}</li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

interface CardProps {
  explorer: Explorer;
  example: Example;
  one: Shown;
  shown: Shown[];
  /** Differences from another response. */
  extra?: Marks;
}

function ResponseCard({ explorer, example, one, shown, extra }: CardProps) {
  const response = responseOf(example, one.policy);
  if (!response) return null;
  const { blind, markdown } = explorer.modes.value;
  const marks: Marks[] = [{ kind: "hit", ranges: explorer.marks(response.text, one.policy) }, ...(extra ? [extra] : [])];
  const twins = shown.filter(
    (other) => other.policy !== one.policy && responseOf(example, other.policy)?.text === response.text,
  );
  return (
    <article class={`card response ${blind ? "" : tint(one.place)}`} aria-label={`Response of ${one.name}`}>
      <h4>
        <span class="policy">
          {blind ? null : <Dot index={one.place} />}
          <VisibleText text={one.name} />
        </span>
        {!blind && shown.length > 1 && example.winner === one.policy ? <span class="best">best reward</span> : null}
      </h4>
      <ul class="chips">
        {blind ? null : <Scores explorer={explorer} response={response} />}
        {twins.length ? <li class="same">same text as {twins.map((twin) => twin.name).join(", ")}</li> : null}
      </ul>
      <LongText
        text={response.text}
        language={example.language}
        marks={marks}
        markdown={markdown && !extra}
        limit={RESPONSE}
      />
    </article>
  );
}

function Scores({ explorer, response }: { explorer: Explorer; response: Response }) {
  const { judges, flags, queues, reward } = explorer.corpus;
  const chip = (name: string, value: string) => (
    <li>
      {name} <b>{value}</b>
    </li>
  );
  return (
    <>
      {response.reward === null ? null : chip(reward === "learned reward" ? "reward" : reward, number(response.reward, 3, true))}
      {judges.map((judge) => chip(judge, number(response.scores[judge], 3, true)))}
      {response.tokens === null ? null : chip("tokens", String(response.tokens))}
      {response.kl === null || response.kl === undefined ? null : chip("KL", `${number(response.kl, 2)} nats`)}
      {response.stop === null || response.flags.includes("cap_hit") ? null : (
        <li>{response.stop === "length" ? flagName("cap_hit") : "ended"}</li>
      )}
      {(response.repeated_4grams ?? 0) > 0 ? chip("repeated 4-grams", percent(response.repeated_4grams ?? 0, 0)) : null}
      {response.flags.map((name) => (
        <li class={name === "qualified_win" ? "flag good" : name in queues ? "" : "flag"} title={flags[name]}>
          {flagName(name)}
          {name === "loop" && response.loop ? ` × ${response.loop}` : null}
        </li>
      ))}
      {response.source ? (
        <li class="source">
          <VisibleText text={response.source} />
        </li>
      ) : null}
    </>
  );
}

interface ComparedProps {
  explorer: Explorer;
  example: Example;
  diff: Diff;
  shown: Shown[];
}

/** Two responses: what the left one alone has is struck out, what the right one alone has is underlined. */
function Compared({ explorer, example, diff, shown }: ComparedProps) {
  const [left, right] = [responseOf(example, diff.left), responseOf(example, diff.right)];
  const found = useMemo(
    () => (left && right ? difference(left.text, right.text, diff.unit) : null),
    [left?.text, right?.text, diff.unit],
  );
  const sides = [diff.left, diff.right].map((policy) => shown.find((one) => one.policy === policy));
  if (!found || !sides[0] || !sides[1]) return <p class="muted">One of the two policies has no response here.</p>;
  const count = found.left.length + found.right.length;
  return (
    <>
      <p class="small" role="status">
        {left?.text === right?.text
          ? "The two responses are equal."
          : found.note || `${count} ${count === 1 ? "difference" : "differences"} by ${found.unit}s.`}
      </p>
      <div class="columns compared">
        <ResponseCard
          explorer={explorer}
          example={example}
          one={sides[0]}
          shown={shown}
          extra={{ kind: "removed", ranges: found.left }}
        />
        <ResponseCard
          explorer={explorer}
          example={example}
          one={sides[1]}
          shown={shown}
          extra={{ kind: "added", ranges: found.right }}
        />
      </div>
    </>
  );
}
