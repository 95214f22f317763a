/** The sub-scores of every style as a table. */

import { element, refill } from "./element.js";
import { colourOf, sample } from "./styles.js";
import { titled } from "./words.js";

const NAMES = {
  pdms: "PDM score",
  score: "Score",
  no_collision: "No collision",
  drivable_area: "On road",
  progress: "Progress",
  time_to_collision: "Time to collision",
  comfort: "Comfort",
  driving_direction: "Direction",
  progress_m: "Way",
  no_collision_ride: "All ride: no collision",
  drivable_area_ride: "All ride: on road",
};

const OVERALL = new Set(["score", "pdms"]);
const GATES = /^(no_collision|drivable_area|driving_direction|time_to_collision|comfort)/;

/** A table with `show(rows, caption)`; a row is `{name, sub_scores}`. */
export function scoreTable() {
  const caption = element("caption", {});
  const [head, body] = [element("thead"), element("tbody")];
  const place = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores of every style" },
    element("table", {}, caption, head, body));

  function show(rows, words) {
    caption.textContent = words;
    const names = [...new Set(rows.flatMap((row) => Object.keys(row.sub_scores)))];
    refill(head, element("tr", {}, element("th", { scope: "col" }, "Style"),
      names.map((name) => element("th", { scope: "col" }, NAMES[name] ?? titled(name)))));
    refill(body, rows.map((row) => element("tr", { class: colourOf(row.name) },
      element("th", { scope: "row" }, sample(row.name), element("span", {}, titled(row.name))),
      names.map((name) => cell(name, row.sub_scores[name])))));
  }

  return { place, show };
}

function cell(name, value) {
  if (value === undefined) return element("td", {}, "not scored");
  if (name.endsWith("_m")) return element("td", {}, `${value.toFixed(1)} m`);
  if (name.endsWith("_s")) return element("td", {}, `${value.toFixed(1)} s`);
  const shown = value.toFixed(2);
  if (OVERALL.has(name)) return element("td", {}, element("strong", {}, shown));
  if (!GATES.test(name)) return element("td", {}, shown);
  if (value >= 1) return element("td", { class: "fine" }, "✓ ", element("span", { class: "unseen" }, "1"));
  return element("td", { class: "failed" }, `✕ ${shown}`);
}
