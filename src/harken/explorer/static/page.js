// Helpers for elements, numbers and policies. Text enters the page only through text nodes.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Create an HTML element. Attributes that are functions become event listeners; strings become text. */
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Create an SVG element. */
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Format a number with fixed digits and a minus sign (−); with `sign`, also a plus. */
function number(value, digits = 2, sign = false) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  const zero = Number(text) === 0;
  if (value < 0 && !zero) return `−${text}`;
  return sign && !zero ? `+${text}` : text;
}

const percent = (share, digits = 1) => `${number(100 * share, digits)} %`;

/** Format a number with about three significant digits. */
function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1).replace("-", "−");
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

const probability = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** The CSS class of a policy's colour. */
const tint = (index) => `p${index % 6}`;

function policyName(data, name) {
  const index = data.summary.policies.indexOf(name);
  return [el("span", { class: `dot ${tint(index)}`, "aria-hidden": "true" }), name];
}

/** A table that scrolls when it is wider than the page. */
function tableCard(caption, head, body, kind = "") {
  return el(
    "div",
    { class: "card scroll", role: "region", tabindex: "0", "aria-label": caption },
    el(
      "table",
      { class: kind },
      el("caption", {}, caption),
      head ? el("thead", {}, el("tr", {}, head)) : null,
      el("tbody", {}, body),
    ),
  );
}

const column = (name, numeric = false) => el("th", { scope: "col", class: numeric ? "number" : null }, name);
const rowHead = (...content) => el("th", { scope: "row" }, ...content);

function section(id, title, ...content) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title),
    ...content,
  );
}
