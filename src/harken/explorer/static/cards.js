// Show one prompt with the responses of all policies side by side.

const flagName = (flag) => (flag === "cap_hit" ? "truncated" : flag.replaceAll("_", " "));

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
      example.responses.map((response, i) => responseCard(data, example, response, i, needle)),
    ),
  ];
}

function responseCard(data, example, response, index, needle) {
  const chip = (name, value) => el("li", {}, `${name} `, el("b", {}, value));
  const best = example.winner === response.policy ? el("span", {}, "best reward") : null;
  return el(
    "article",
    { class: `card response ${tint(index)}`, "aria-label": `Response of ${response.policy}` },
    el("h4", {}, response.policy, best),
    el(
      "ul",
      { class: "chips" },
      chip("reward", number(response.reward, 3, true)),
      data.summary.judges.map((judge) => chip(judge, number(response.scores[judge], 3, true))),
      response.tokens === null ? null : chip("tokens", String(response.tokens)),
      response.stop === null || response.flags.includes("cap_hit")
        ? null
        : el("li", {}, response.stop === "length" ? flagName("cap_hit") : "ended"),
      response.repeated_4grams > 0 ? chip("repeated 4-grams", percent(response.repeated_4grams, 0)) : null,
      response.flags.map((name) =>
        el(
          "li",
          { class: name === "qualified_win" ? "flag good" : "flag", title: data.flags[name] },
          flagName(name),
          name === "loop" ? ` × ${response.loop}` : null,
        ),
      ),
    ),
    prose(response.text, needle, example.language),
  );
}
