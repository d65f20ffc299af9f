// One prompt and all policies' answers to it, side by side.

const flagName = (flag) => (flag === "cap_hit" ? "cut at limit" : flag.replaceAll("_", " "));

/** The address of an example within the page. */
const linkTo = (example) => `#example=${encodeURIComponent(example.id)}`;

function exampleView(data, example, needle) {
  const facts = [example.domain, example.language].filter(Boolean).join(" · ");
  return [
    el(
      "p",
      { class: "small" },
      el("a", { href: linkTo(example), title: "A link to this prompt" }, visible(example.id)),
      facts ? ` · ${facts}` : "",
    ),
    ...example.messages.map((message) =>
      el(
        "div",
        { class: "turn" },
        el("div", { class: "role" }, message.role),
        prose(message.content, needle, example.language),
      ),
    ),
    el(
      "div",
      { class: "columns" },
      example.answers.map((answer, i) => answerCard(data, example, answer, i, needle)),
    ),
  ];
}

function answerCard(data, example, answer, index, needle) {
  const chip = (name, value) => el("li", {}, `${name} `, el("b", {}, value));
  const best = example.winner === answer.policy ? el("span", {}, "best reward") : null;
  return el(
    "article",
    { class: `card answer ${tint(index)}`, "aria-label": `Answer of ${answer.policy}` },
    el("h4", {}, answer.policy, best),
    el(
      "ul",
      { class: "chips" },
      chip("reward", number(answer.reward, 3, true)),
      data.summary.judges.map((judge) => chip(judge, number(answer.scores[judge], 3, true))),
      chip("tokens", String(answer.tokens)),
      answer.flags.includes("cap_hit")
        ? null
        : el("li", {}, answer.stop === "length" ? flagName("cap_hit") : "ended"),
      answer.repeated_4grams > 0 ? chip("repeated 4-grams", percent(answer.repeated_4grams, 0)) : null,
      answer.flags.map((name) =>
        el(
          "li",
          { class: name === "qualified_win" ? "flag good" : "flag", title: data.flags[name] },
          flagName(name),
          name === "loop" ? ` × ${answer.loop}` : null,
        ),
      ),
    ),
    prose(answer.text, needle, example.language),
  );
}
