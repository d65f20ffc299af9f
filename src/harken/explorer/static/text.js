// Text of models and users: shown as it is, what cannot be seen made visible, what was searched for marked.

// Control characters, zero-width spaces, and the signs that turn the direction of text round.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]/;

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Nodes for a text: plain text nodes, <mark> where `needle` stands, a label for each hidden character. */
function visible(text, needle = "") {
  const literal = needle.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const split = new RegExp(literal ? `(${HIDDEN.source}|${literal})` : `(${HIDDEN.source})`, "giu");
  return text.split(split).map((part, index) => {
    if (index % 2 === 0) return document.createTextNode(part);
    if (HIDDEN.test(part))
      return el("span", { class: "control", title: "a character that cannot be seen" }, codePoint(part));
    return el("mark", {}, part);
  });
}

/** A paragraph of such text; it is read in its own direction, and its lines stay lines. */
function prose(text, needle, language) {
  if (!text.trim()) return el("p", { class: "text muted" }, text ? "(only space)" : "(empty)");
  return el("div", { class: "text", dir: "auto", lang: language || null, tabindex: "0" }, visible(text, needle));
}
