// The pieces a page is made of: elements, numbers, policies. Text enters the page through text nodes alone.

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

/** An HTML element. Functions among the attributes listen to the event of their name; strings become text. */
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same in SVG. */
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A number with a fixed count of digits and a true minus; with `sign` also a plus. */
function number(value, digits = 2, sign = false) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  const zero = Number(text) === 0;
  if (value < 0 && !zero) return `−${text}`;
  return sign && !zero ? `+${text}` : text;
}

const percent = (share, digits = 1) => `${number(100 * share, digits)} %`;

/** A number as short as it can be and still tell its neighbours apart. */
function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1).replace("-", "−");
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

const probability = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** The class that gives a policy its colour, the same everywhere. */
const tint = (index) => `p${index % 6}`;

function policyName(data, name) {
  const index = data.summary.policies.indexOf(name);
  return [el("span", { class: `dot ${tint(index)}`, "aria-hidden": "true" }), name];
}

/** A table that scrolls on its own when it is wider than the page. */
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
