/** The styles that are drawn over each other: how each is asked for, and how it is told apart. */

import { drawn, element } from "./element.js";
import { slider } from "./slider.js";
import { styleInShort, styleInWords, titled } from "./words.js";

/** Colour by class, dash pattern and end mark: no two styles share any of the three. */
export const LOOKS = {
  conservative: { dash: "9 5", mark: "square" },
  normal: { dash: "2 5", mark: "circle" },
  aggressive: { dash: "14 4 3 4", mark: "triangle" },
  "nothing asked": { dash: "5 3", mark: "cross" },
  mine: { dash: null, mark: "diamond" },
  "as driven": { dash: "1 4", mark: "ring" },
};
const PRESETS = ["conservative", "normal", "aggressive"];
const HINTS = {
  speed: "Faster or slower than most in the same situation.",
  time_gap: "More is a longer gap to the vehicle ahead, in time.",
  acceleration: "Harder or gentler acceleration.",
  braking: "Harder or gentler braking.",
  jerk: "More or fewer jolts.",
  lateral_acceleration: "Faster or slower through bends.",
  lane_change_assertiveness: "More or less assertive lane changes.",
  yielding_margin: "More is a larger margin when giving way.",
};

/** The class that colours a style. */
export function colourOf(name) {
  return `style-${name.replaceAll(" ", "-")}`;
}

/** A mark of a style around the origin, `size` across. */
export function endMark(name, size) {
  const half = size / 2;
  const shapes = {
    square: () => drawn("rect", { x: -half * 0.85, y: -half * 0.85, width: size * 0.85, height: size * 0.85 }),
    circle: () => drawn("circle", { r: half }),
    ring: () => drawn("circle", { r: half * 0.8, class: "hollow" }),
    triangle: () => drawn("path", { d: `M${half} 0L${-half} ${half}L${-half} ${-half}Z` }),
    diamond: () => drawn("path", { d: `M${half} 0L0 ${half}L${-half} 0L0 ${-half}Z` }),
    cross: () => drawn("path", { class: "hollow", d: `M${-half} ${-half}L${half} ${half}M${-half} ${half}L${half} ${-half}` }),
  };
  return shapes[LOOKS[name].mark]();
}

/** A piece of a style's line, for the legend. */
export function sample(name) {
  return drawn("svg", { class: `sample ${colourOf(name)}`, viewBox: "0 0 46 14", "aria-hidden": "true" },
    drawn("line", { x1: 2, y1: 7, x2: 34, y2: 7, "stroke-dasharray": LOOKS[name].dash }),
    drawn("g", { transform: "translate(39 7)", class: "mark" }, endMark(name, 9)));
}

/**
 * The legend, which also chooses what is drawn.
 *
 * @param {function(): void} onchange Called when a style is shown or hidden.
 */
export function styleLegend(onchange) {
  const shown = new Set(["conservative", "aggressive", "mine", "as driven"]);
  const rows = Object.keys(LOOKS).map((name) => element("label", { class: `check ${colourOf(name)}` },
    element("input", {
      type: "checkbox",
      checked: shown.has(name),
      onchange: (event) => {
        if (event.target.checked) shown.add(name);
        else shown.delete(name);
        onchange();
      },
    }), sample(name), element("span", {}, titled(name))));
  return {
    place: element("fieldset", { class: "legend" }, element("legend", {}, "Ways to drive"), rows),
    /** Names of the planned styles that are shown, in the order of the legend. */
    get planned() {
      return Object.keys(LOOKS).filter((name) => shown.has(name) && name !== "as driven");
    },
    get showsDriven() {
      return shown.has("as driven");
    },
  };
}

/** A style as a question says it; one's own may be steered too. */
export function askedStyle(name, mine, steering = null) {
  if (PRESETS.includes(name)) return { name, preset: name };
  if (name !== "mine") return { name };
  const style = Object.keys(mine).length > 0 ? { style: { ...mine } } : {};
  return { name, ...style, ...(steering === null ? {} : { steering }) };
}

/**
 * The sliders of "mine": each dimension has a value from -1 to 1, or is left open.
 *
 * @param {string[]} dimensions Their names.
 * @param {function(): void} onchange Called while one is dragged.
 */
export function styleSliders(dimensions, onchange) {
  const values = {};
  const sliders = new Map(dimensions.map((name) => [name, slider({
    label: titled(name),
    hint: HINTS[name] ?? null,
    least: -1, most: 1, step: 0.1, value: null,
    words: styleInWords,
    short: styleInShort,
    openWords: "left open",
    onmove: (value) => {
      put(name, value);
      onchange();
    },
  })]));

  function put(name, value) {
    if (value === null) delete values[name];
    else values[name] = value;
  }

  return {
    values,
    place: element("div", { class: "sliders" }, [...sliders.values()].map((one) => one.place)),
    /** Sets all of them; what is not named is left open. */
    set(others) {
      for (const [name, one] of sliders) {
        const value = others[name] === undefined ? null : Math.round(others[name] * 10) / 10;
        put(name, value);
        one.set(value);
      }
      onchange();
    },
  };
}
