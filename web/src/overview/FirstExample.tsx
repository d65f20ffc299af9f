// One example at the top of the page, and why it is the first: its scorers disagree most, its rewards differ most, or it has the most flags.
import type { Example, PageData, Response } from "../contract";
import { number } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { setValues } from "../page/state";
import { VisibleText } from "../page/VisibleText";

/** Characters of a text that are shown here; the responses section has all of it. */
const MAX_CHARS = 420;

const shortened = (text: string) => (text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS).trimEnd()} …` : text);

function asked({ messages }: Example): string {
  return [...messages].reverse().find(({ role }) => role === "user")?.content ?? messages.at(-1)?.content ?? "";
}

export function FirstExample({ data }: { data: PageData }) {
  const example = data.examples.find(({ id }) => id === data.headline.example);
  if (!example) return null;
  const open = () => {
    setValues({ example: example.id });
    document.getElementById("responses")?.scrollIntoView();
  };
  const judge = data.judges[0];
  return (
    <div class="card first" role="group" aria-label="One example">
      <p class="small">One of {data.examples.length.toLocaleString("en")}: {reasonOf(example, data.reward ?? "reward", judge)}.</p>
      <p class="asked" dir="auto">
        <VisibleText text={shortened(asked(example))} />
      </p>
      <div class="answers">
        {example.responses.map((response) => (
          <Answer data={data} response={response} judge={judge} />
        ))}
      </div>
      <button type="button" class="link" onClick={open}>
        Open this example among the responses
      </button>
    </div>
  );
}

/** Say by which number the example was chosen; the order is that of `first_example`. */
function reasonOf({ responses, disagreement }: Example, reward: string, judge: string | undefined): string {
  if (disagreement && judge) return `the example on which ${reward} and ${judge} disagree most`;
  const rewards = responses.flatMap((response) => (response.reward === null ? [] : [response.reward]));
  if (new Set(rewards).size > 1) return `the example on which the policies differ most in ${reward}`;
  return responses.some(({ flags }) => flags.length) ? "the example with the most flags" : "the first example";
}

function Answer({ data, response, judge }: { data: PageData; response: Response; judge: string | undefined }) {
  const text = shortened(response.text);
  const score = judge ? response.scores[judge] : null;
  return (
    <div class={`answer ${tint(data.policies.indexOf(response.policy))}`}>
      <p class="who">
        <PolicyName name={response.policy} policies={data.policies} />
        <span class="small">
          {[
            response.reward === null ? "" : `${data.reward ?? "reward"} ${number(response.reward, 2, true)}`,
            score === null || score === undefined ? "" : `${judge} ${number(score, 2, true)}`,
          ]
            .filter(Boolean)
            .join(" · ")}
        </span>
      </p>
      <p class="said" dir="auto">
        {text.trim() ? <VisibleText text={text} /> : <span class="muted">(empty)</span>}
      </p>
    </div>
  );
}
