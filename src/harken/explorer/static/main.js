// Unpack the data, draw the sections and show the example that the address names.

async function unpack(node) {
  const packed = atob(node.textContent.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function draw(data) {
  const { summary } = data;
  document.title = data.title;
  document.getElementById("title").replaceChildren(...visible(data.title));
  const samples = summary?.samples > 1 ? `, ${summary.samples} samples each` : "";
  document.getElementById("subtitle").textContent = summary
    ? `${summary.policies.join(", ")} on ${counted(summary.prompts, "held-out prompt")}${samples}` +
      ` · intervals are 95 % · seed ${summary.seed}`
    : `training of ${data.stages.map((stage) => stage.title).join(", ")}`;
  const responses = summary ? responsesSection(data) : null;
  const sections = [
    verdictSection(data),
    summary ? comparisonSection(data) : null,
    ...data.accounts.map(accountSection),
    trainingSection(data),
    responses?.element,
    dataSection(data),
    factsSection(data),
  ].filter(Boolean);
  const notice = data.notice
    ? el("p", { class: "notice", role: "note" }, el("strong", {}, "Note: "), ...visible(data.notice))
    : null;
  document.querySelector("main").replaceChildren(...[notice, ...sections].filter(Boolean));
  document
    .getElementById("contents")
    .replaceChildren(...sections.map((part) => el("a", { href: `#${part.id}` }, part.firstChild.textContent)));
  responses?.follow();
  window.addEventListener("beforeprint", () =>
    document.querySelectorAll("details").forEach((part) => {
      part.open = true;
    }),
  );
}

unpack(document.getElementById("data"))
  .then(draw)
  .catch((error) => {
    document.getElementById("state").textContent =
      `This page could not show its data (${error.message}). It needs a browser from 2023 or later.`;
  });
