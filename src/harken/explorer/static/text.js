// Show text of models and users unchanged: invisible characters are labelled, search hits are marked.

// Control characters, zero-width spaces, and characters that change the direction of text.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]/;

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Nodes for a text: plain text nodes, <mark> for each `needle`, a label for each hidden character. */
function visible(text, needle = "") {
  const literal = needle.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const split = new RegExp(literal ? `(${HIDDEN.source}|${literal})` : `(${HIDDEN.source})`, "giu");
  return text.split(split).map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    if (HIDDEN.test(part))
      return el("span", { class: "control", title: "invisible character" }, codePoint(part));
    return el("mark", {}, part);
  });
}

/** A paragraph of such text, in its own writing direction and with its line breaks. */
function prose(text, needle, language) {
  if (!text.trim()) return el("p", { class: "text muted" }, text ? "(whitespace only)" : "(empty)");
  return el("div", { class: "text", dir: "auto", lang: language || null, tabindex: "0" }, visible(text, needle));
}
