// Sections of text and tables: the report card of the reward model, the audit of the responses.

function accountBlock(block) {
  if (block.kind === "heading") return el("h3", {}, ...visible(block.text));
  if (block.kind === "item") return el("p", { class: "item" }, "• ", ...visible(block.text));
  if (block.kind === "text") return el("p", {}, ...visible(block.text));
  const [first, ...others] = block.heads;
  return tableCard(
    block.heads.join(", "),
    [column(first), ...others.map((head) => column(head))],
    block.rows.map(([name, ...cells]) =>
      el("tr", {}, rowHead(...visible(name)), ...cells.map((cell) => el("td", {}, ...visible(cell)))),
    ),
    "plain",
  );
}

function accountSection(account) {
  return section(account.id, account.title, ...account.blocks.map(accountBlock));
}
