/** What moved between two rankings, in numbers and in words. */

import { counted } from "./words.js";

/**
 * What changed from one ranking to the next.
 *
 * @param {string[]} before Ids, best first.
 * @param {string[]} after Ids, best first.
 * @returns {{entered: number, moved: number}} Ids that were not there, and that changed places.
 */
export function changes(before, after) {
  const places = new Map(before.map((id, place) => [id, place]));
  let entered = 0;
  let moved = 0;
  after.forEach((id, place) => {
    if (!places.has(id)) entered += 1;
    else if (places.get(id) !== place) moved += 1;
  });
  return { entered, moved };
}

/** The same as a sentence. */
export function changesInWords(before, after) {
  const { entered, moved } = changes(before, after);
  if (entered === 0 && moved === 0) return "Nothing changed.";
  const changed = `${entered} of ${counted(after.length, "item")} changed`;
  return moved > 0 ? `${changed}, ${moved} moved.` : `${changed}.`;
}

/**
 * How a place compares with another.
 *
 * @param {number} rank Place here, from 1.
 * @param {number|null} other Place there; null if it is not among those compared.
 * @returns {{way: "up"|"down"|"same"|"new", arrow: string, short: string, long: string}}
 */
export function movement(rank, other) {
  if (other === null) return { way: "new", arrow: "★", short: "new", long: "new: not found without preferences" };
  const by = other - rank;
  if (by === 0) return { way: "same", arrow: "=", short: "", long: "in the same place" };
  const way = by > 0 ? "up" : "down";
  const places = counted(Math.abs(by), "place");
  return { way, arrow: by > 0 ? "▲" : "▼", short: String(Math.abs(by)), long: `${way} ${places}, from ${other}` };
}
