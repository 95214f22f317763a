/** A labelled slider that says its value in words. */

import { element, freshId, unseen } from "./element.js";

/**
 * A slider with its label and its value in words.
 *
 * @param {Object} options `label`; `hint`, a sentence shown as a tool-tip and read after the name;
 *   `least`, `most`, `step`, `value`; `words(value)` and `short(value)`, the same in fewer words
 *   for the eye; `onmove(value)` while it is dragged. With `openWords` it can also be left open:
 *   `value` null, and a button beside it leaves it open; its thumb then lies at `rest`.
 * @returns {{place: HTMLElement, set: function(number|null): void}}
 */
export function slider(options) {
  const { label, hint = null, least, most, step, words, onmove, openWords = null, rest = 0 } = options;
  const short = options.short ?? words;
  const id = freshId("slider");
  const input = element("input", {
    id,
    type: "range",
    min: least,
    max: most,
    step,
    value: options.value ?? rest,
    "aria-describedby": hint ? `${id}-hint` : null,
  });
  const output = element("output", { for: id });
  const opener = openWords
    ? element("button", { type: "button", class: "quiet opener", title: "leave open", onclick: () => moved(null) },
        element("span", { "aria-hidden": "true" }, "×"), unseen(`leave open ${label}`))
    : null;
  const place = element("div", { class: least < 0 ? "slider centred" : "slider", title: hint },
    element("label", { for: id }, label), element("span", { class: "said" }, output, opener), input,
    hint ? element("span", { id: `${id}-hint`, class: "unseen" }, hint) : null);

  function show(value) {
    const open = value === null;
    place.classList.toggle("open", open);
    if (opener) opener.hidden = open;
    output.value = open ? openWords : short(value);
    input.setAttribute("aria-valuetext", open ? openWords : words(value));
    const from = least < 0 ? -least / (most - least) : 0;
    const at = open ? from : (value - least) / (most - least);
    input.style.setProperty("--low", `${Math.min(at, from) * 100}%`);
    input.style.setProperty("--high", `${Math.max(at, from) * 100}%`);
    input.classList.toggle("negative", (value ?? 0) < 0);
  }

  function moved(value) {
    if (value === null) {
      input.value = rest;
      input.focus();
    }
    show(value);
    onmove(value);
  }

  input.addEventListener("input", () => moved(Number(input.value)));
  show(options.value);
  return {
    place,
    set(value) {
      input.value = value ?? rest;
      show(value);
    },
  };
}
