// Find a prompt: search, filters, order, keyboard shortcuts and links.

function responsesSection(data) {
  const { examples, flags } = data;
  const { policies, pairs, judges } = data.summary;
  if (!examples.length) return null;
  examples.forEach((example) => {
    example.haystack = [
      ...example.messages.map((m) => m.content),
      ...example.responses.map((a) => a.text),
      example.id,
    ]
      .join("\n")
      .toLowerCase();
  });
  const asked = (example) => [...example.messages].reverse().find((m) => m.role === "user")?.content ?? "";
  const valueOf = (response, measure) => (measure === "" ? response.reward : response.scores[measure]);
  const difference = (example, pair, measure) => {
    const [left, right] = [pair.left, pair.right].map((name) =>
      valueOf(example.responses[policies.indexOf(name)], measure),
    );
    return left === null || right === null ? null : right - left;
  };

  // Controls
  const options = (entries) => entries.map(([value, text]) => el("option", { value }, text));
  const choose = (label, ...entries) => {
    const select = el("select", { change: () => update() }, ...entries);
    return [select, el("label", {}, label, select)];
  };
  const tally = (test) => examples.filter(test).length;
  const query = el("input", {
    type: "search",
    placeholder: "words in prompts and responses",
    autocomplete: "off",
    input: () => later(),
  });
  const [domain, domainLabel] = choose(
    "Domain",
    options([
      ["", "all"],
      ...Object.entries(data.summary.domains).map(([name, count]) => [name, `${name || "(none)"} (${count})`]),
    ]),
  );
  const [winner, winnerLabel] = choose(
    "Best response",
    options([
      ["", "any"],
      ...policies.map((name) => [`=${name}`, `${name} (${tally((e) => e.winner === name)})`]),
      ["none", `no single best (${tally((e) => e.winner === null)})`],
    ]),
  );
  const carries = (example, flag, policy) =>
    example.responses.some((a) => (!policy || a.policy === policy) && a.flags.includes(flag));
  const flagOptions = (policy) =>
    Object.keys(flags)
      .map((flag) => [`${flag}|${policy}`, tally((e) => carries(e, flag, policy)), flag])
      .filter(([, count]) => count)
      .map(([value, count, flag]) => [value, `${flagName(flag)} (${count})`]);
  const [flag, flagLabel] = choose(
    "Flag",
    options([["", "any or none"]]),
    el("optgroup", { label: "any policy" }, options(flagOptions(""))),
    policies.map((name) => el("optgroup", { label: name }, options(flagOptions(name)))),
  );
  const sorts = ["", ...judges].flatMap((measure) =>
    [...pairs.entries()]
      .reverse()
      .flatMap(([i, pair]) =>
        [-1, 1].map((way) => [
          `${i}|${way}|${measure}`,
          `${measure || "reward"}: ${pair.right} − ${pair.left}, ${way < 0 ? "highest" : "lowest"} first`,
        ]),
      ),
  );
  const [sort, sortLabel] = choose("Order", options([["", "as evaluated"], ...sorts]));

  const count = el("span", { role: "status", class: "muted" });
  const previous = el("button", { type: "button", click: () => step(-1) }, "← Previous");
  const next = el("button", { type: "button", click: () => step(1) }, "Next →");
  const random = el("button", { type: "button", click: () => pickRandom() }, "Random");
  const clear = el("button", { type: "button", click: () => clearAll() }, "Clear");
  const rail = el("ol", { class: "card rail", "aria-label": "Prompts found" });
  const stage = el("div");
  let found = examples;
  let current = examples[0];

  function matches(example, words) {
    const [name, policy] = flag.value.split("|");
    return (
      (!domain.selectedIndex || example.domain === domain.value) &&
      (!winner.value ||
        (winner.value === "none" ? example.winner === null : `=${example.winner}` === winner.value)) &&
      (!flag.value || carries(example, name, policy)) &&
      (!words || example.haystack.includes(words))
    );
  }

  function shownPair() {
    const [index, , measure] = sort.value ? sort.value.split("|") : [pairs.length - 1, 0, ""];
    return pairs.length ? [pairs[index], measure] : [null, ""];
  }

  function update(keep = current) {
    const words = query.value.trim().toLowerCase();
    found = examples.filter((example) => matches(example, words));
    const [pair, measure] = shownPair();
    if (sort.value) {
      const way = Number(sort.value.split("|")[1]);
      const key = new Map(found.map((example) => [example, difference(example, pair, measure)]));
      found.sort((a, b) => (key.get(a) === null) - (key.get(b) === null) || way * (key.get(a) - key.get(b)));
    }
    rail.replaceChildren(
      ...found.map((example) => {
        const value = pair ? difference(example, pair, measure) : example.responses[0].reward;
        return el(
          "li",
          {},
          el(
            "button",
            { type: "button", "data-id": example.id, click: () => show(example) },
            el("span", {}, visible(asked(example))),
            el("span", {}, number(value, 2, Boolean(pair))),
          ),
        );
      }),
    );
    if (!found.length) {
      count.replaceChildren("nothing found");
      stage.replaceChildren(el("p", { class: "muted" }, "No prompt matches these filters. Clear them to see all."));
      previous.disabled = next.disabled = random.disabled = true;
      return;
    }
    show(found.includes(keep) ? keep : found[0], false);
  }

  function show(example, link = true) {
    current = example;
    const place = found.indexOf(example);
    count.replaceChildren(
      `${place + 1} of ${found.length}${found.length < examples.length ? ` found (${examples.length} in all)` : ""}`,
    );
    previous.disabled = place <= 0;
    next.disabled = place >= found.length - 1;
    random.disabled = found.length < 2;
    rail.querySelector("[aria-current]")?.removeAttribute("aria-current");
    const entry = rail.children[place]?.firstChild;
    if (entry) {
      entry.setAttribute("aria-current", "true");
      rail.scrollTop = Math.max(0, entry.parentNode.offsetTop - rail.offsetTop - rail.clientHeight / 2);
    }
    stage.replaceChildren(...exampleView(data, example, query.value.trim()));
    if (link) history.replaceState(null, "", linkTo(example));
  }

  const step = (by) => {
    const to = found[found.indexOf(current) + by];
    if (to) show(to);
  };
  const pickRandom = () => {
    const others = found.filter((example) => example !== current);
    if (others.length) show(others[Math.floor(Math.random() * others.length)]);
  };
  const clearAll = () => {
    query.value = "";
    for (const select of [domain, winner, flag, sort]) select.selectedIndex = 0;
    update();
  };
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(update, 120);
  };

  /** Show the example that the address names. */
  function follow() {
    const [, id] = location.hash.match(/^#example=(.+)$/) ?? [];
    if (!id) return;
    let wanted = id;
    try {
      wanted = decodeURIComponent(id);
    } catch {
      /* an address that cannot be decoded is used unchanged */
    }
    const example = examples.find((e) => e.id === wanted);
    if (!example) return;
    if (!found.includes(example)) clearAll();
    show(example, false);
    document.getElementById("responses").scrollIntoView();
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { j: () => step(1), k: () => step(-1), r: pickRandom, "/": () => query.focus() }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  window.addEventListener("hashchange", follow);
  update();

  const keys = el(
    "span",
    { class: "small" },
    el("kbd", {}, "j"),
    " next ",
    el("kbd", {}, "k"),
    " previous ",
    el("kbd", {}, "r"),
    " random ",
    el("kbd", {}, "/"),
    " search",
  );
  const element = section(
    "responses",
    "Responses",
    el(
      "div",
      { class: "card tools", role: "search" },
      el("label", { class: "grow" }, "Search", query),
      domainLabel,
      winnerLabel,
      flagLabel,
      sortLabel,
      clear,
    ),
    el(
      "div",
      { class: "reader" },
      rail,
      el("div", {}, el("div", { class: "bar" }, previous, next, random, count, keys), stage),
    ),
  );
  return { element, follow };
}
