/** What a list or a plan should be like: a chain of the server's, goals for it, and what was reached. */

import { element, freshId, refill } from "./element.js";
import { slider } from "./slider.js";
import { plain, titled } from "./words.js";

const STEP = 0.05;

/**
 * The panel that asks for a chain and goals.
 *
 * @param {Object|null} offered `steering` of a half of `/v1/info`; null where nothing steers.
 * @param {function(boolean): void} onchange Called with whether to ask at once.
 * @returns {{place: HTMLElement|null, asked: Object|null, show: function(Object|null): void}}
 *   `asked` is what a question says, null without a chain or a goal; `show` tells what was reached.
 */
export function steeringPanel(offered, onchange) {
  if (!offered || offered.chains.length === 0) return { place: null, asked: null, show() {} };
  const values = {};
  const id = freshId("chain");
  const chain = element("select", { id, onchange: () => chosen() },
    element("option", { value: "" }, "Not steered"),
    offered.chains.map((name) => element("option", { value: name }, name)));
  const sliders = element("div", { class: "sliders" }, offered.goals.map((goal) => slider({
    label: titled(goal.name),
    hint: `More is ${goal.meaning}.`,
    least: 0, most: 1, step: STEP, value: null, rest: 0.5,
    words: (value) => `${value.toFixed(2)} of its range${unitInWords(goal, value)}`,
    short: (value) => value.toFixed(2),
    openWords: "left open",
    onmove: (value) => {
      if (value === null) delete values[goal.name];
      else values[goal.name] = value;
      hint.hidden = Object.keys(values).length > 0;
      onchange(false);
    },
  }).place));
  const hint = element("p", { class: "soft" }, "Move a goal; what is left open is not steered.");
  const outcome = reachedTable(new Map(offered.goals.map((goal) => [goal.name, goal])));
  const goals = element("div", { hidden: true }, hint, sliders, outcome.place);

  function chosen() {
    goals.hidden = chain.value === "";
    onchange(true);
  }

  return {
    place: element("div", { class: "steering" },
      element("div", { class: "field" }, element("label", { for: id }, "Steered by"), chain), goals),
    get asked() {
      if (chain.value === "" || Object.keys(values).length === 0) return null;
      return { chain: chain.value, goals: { ...values } };
    },
    show: outcome.show,
  };
}

/** A goal's raw value, where it has a unit. */
function unitInWords(goal, value) {
  if (!goal.unit) return "";
  return `, ${plain(goal.low + (goal.high - goal.low) * value, 1)} ${goal.unit}`;
}

/** What was reached, without steering and with it; empty where nothing was asked. */
function reachedTable(goals) {
  const place = element("div", { class: "reached" });
  const head = ["Goal", "Wanted", "Without", "Steered"].map((name) => element("th", { scope: "col" }, name));
  return {
    place,
    show(steered) {
      const rows = (steered?.goals ?? []).map((one) => element("tr", {},
        element("th", { scope: "row" }, titled(one.name)),
        element("td", {}, one.wanted.toFixed(2)),
        cell(one.without, goals.get(one.name)), cell(one.reached, goals.get(one.name))));
      refill(place, rows.length === 0 ? null : element("div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Goals reached" },
        element("table", {}, element("caption", {}, "What was reached, from 0 to 1"),
          element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows))));
    },
  };
}

function cell(value, goal) {
  if (value === null) return element("td", {}, "not known");
  const raw = goal?.unit ? element("small", {}, ` ${plain(value.raw, 1)} ${goal.unit}`) : null;
  return element("td", {}, value.normalized.toFixed(2), raw);
}

/** What was reached as a sentence. */
export function reachedInWords(steered) {
  const known = (steered?.goals ?? []).filter((one) => one.reached !== null);
  return known.map((one) =>
    `${titled(one.name)} reached ${one.reached.normalized.toFixed(2)} of ${one.wanted.toFixed(2)} wanted.`).join(" ");
}
