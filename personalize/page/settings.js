/** How to retrieve, how many, and what may be found. */

import { element, freshId } from "./element.js";

const MODES = [
  ["hybrid", "Hybrid", "Generated and new items, ranked by the model."],
  ["dense", "Dense", "The nearest vectors."],
  ["generative", "Generative", "Semantic IDs, generated digit by digit."],
];
const MOST = 50;

/**
 * @param {string[]|null} served Modes that the server has; null for all.
 * @param {function(boolean): void} onchange Called with whether to ask at once.
 */
export function settingsBar(served, onchange) {
  const offered = MODES.filter(([name]) => served === null || served.includes(name));
  const state = { mode: offered[0][0], k: 10, filters: {} };
  const category = textField("Only in category", "any", (text) => {
    const words = text.split(",").map((word) => word.trim()).filter(Boolean);
    filter("categories", words.length > 0 ? words : null);
  });
  const least = priceField("Price from", (cents) => filter("least_price_cents", cents));
  const most = priceField("Price to", (cents) => filter("most_price_cents", cents));
  const seen = element("label", { class: "check" },
    element("input", {
      type: "checkbox",
      onchange: (event) => filter("seen", event.target.checked ? "include" : null),
    }), element("span", {}, "Items already met, too"));
  const summary = element("summary", {}, "Filters");

  function filter(name, value) {
    if (value === null) delete state.filters[name];
    else state.filters[name] = value;
    const count = Object.keys(state.filters).length;
    summary.textContent = count > 0 ? `Filters (${count})` : "Filters";
    onchange(false);
  }

  const modes = element("fieldset", { class: "modes" }, element("legend", {}, "Retrieval"),
    offered.map(([value, label, hint]) => element("label", { title: hint },
      element("input", {
        type: "radio", name: "mode", value, checked: value === state.mode,
        onchange: () => {
          state.mode = value;
          onchange(true);
        },
      }), element("span", {}, label))));
  const countId = freshId("k");
  const count = element("input", {
    id: countId, type: "number", min: 1, max: MOST, step: 1, value: state.k,
    oninput: (event) => {
      const wanted = Math.round(Number(event.target.value));
      if (wanted >= 1 && wanted <= MOST) {
        state.k = wanted;
        onchange(false);
      }
    },
  });
  return {
    state,
    place: element("div", { class: "settings" }, modes,
      element("div", { class: "field narrow" }, element("label", { for: countId }, "Items"), count),
      element("details", { class: "filters" }, summary,
        element("div", { class: "fields" }, category, least, most, seen))),
  };
}

function textField(label, placeholder, onchange) {
  const id = freshId("filter");
  return element("div", { class: "field" }, element("label", { for: id }, label),
    element("input", { id, type: "text", placeholder, oninput: (event) => onchange(event.target.value) }));
}

function priceField(label, onchange) {
  const id = freshId("price");
  return element("div", { class: "field narrow" }, element("label", { for: id }, label),
    element("input", {
      id, type: "number", min: 0, step: 1, placeholder: "$",
      oninput: (event) => {
        const text = event.target.value;
        onchange(text === "" || Number(text) < 0 ? null : Math.round(Number(text) * 100));
      },
    }));
}
