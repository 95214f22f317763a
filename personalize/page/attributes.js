/** Sliders for named attributes: right is wanted, left is avoided, the middle says nothing. */

import { element } from "./element.js";
import { slider } from "./slider.js";
import { titled, wishInShort, wishInWords } from "./words.js";

const FIRST = 8;

/**
 * @param {{name: string, text: string}[]} attributes What the server knows by name.
 * @param {function(): void} onchange Called while a slider is dragged.
 */
export function attributeSliders(attributes, onchange) {
  const values = Object.fromEntries(attributes.map(({ name }) => [name, 0]));
  const sliders = attributes.map(({ name, text }) => slider({
    label: titled(name),
    hint: text,
    least: -1, most: 1, step: 0.1, value: 0,
    words: wishInWords,
    short: wishInShort,
    onmove: (value) => {
      values[name] = value;
      onchange();
    },
  }));
  const places = sliders.map((one) => one.place);
  const more = places.slice(FIRST);
  const clear = element("button", {
    type: "button",
    class: "quiet",
    onclick: () => {
      for (const { name } of attributes) values[name] = 0;
      sliders.forEach((one) => one.set(0));
      onchange();
    },
  }, "Set all to nothing said");
  return {
    values,
    place: element("div", { class: "attributes" },
      element("div", { class: "sliders" }, places.slice(0, FIRST)),
      more.length > 0
        ? element("details", {}, element("summary", {}, `${more.length} more attributes`),
          element("div", { class: "sliders" }, more))
        : null,
      clear),
  };
}
