/** Elements by function calls: whatever comes from data becomes text, never markup. */

const DRAWING = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "min", "max", "step"]);

/**
 * An HTML element.
 *
 * @param {string} name Its tag.
 * @param {Object} attributes Attributes; `onclick` and the like are listeners; null is left out.
 * @param {...(Node|string|number|null|undefined)} children Strings become text.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An element of a drawing (SVG), with the same arguments as `element`. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(DRAWING, name), attributes, children);
}

/** Puts other children into an element. */
export function refill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** A text that only a screen reader reads. */
export function unseen(text) {
  return element("span", { class: "unseen" }, text);
}

let count = 0;

/** An id that no other element has. */
export function freshId(stem) {
  count += 1;
  return `${stem}-${count}`;
}

function filled(made, attributes, children) {
  // `min` and `max` come before `value`: a range cuts its value to them as it is set.
  const order = Object.entries(attributes).sort((a, b) => (a[0] === "value") - (b[0] === "value"));
  for (const [key, value] of order) {
    if (value === null || value === undefined) continue;
    if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else if (PROPERTIES.has(key) && made instanceof HTMLElement) made[key] = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined).map(asNode));
  return made;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}
