/** What a person wants: the preferences that were read or typed, as they stand now. */

import { turnedRound } from "./words.js";

/** The server takes at most this many in one question. */
export const MOST_WISHES = 32;

let count = 0;

/**
 * A preference that can be edited.
 *
 * @param {Object} read A preference as the server read it; typed ones have no evidence.
 */
export function wish({ text, polarity = "like", strength = null, evidence = [] }) {
  count += 1;
  return {
    key: `wish-${count}`,
    text,
    polarity,
    weight: 1,
    deleted: false,
    evidence,
    readStrength: strength,
    original: { text, polarity },
  };
}

/** Turns what is wanted into what is avoided, and back. */
export function turn(one) {
  one.polarity = one.polarity === "like" ? "avoid" : "like";
  one.text = one.polarity === one.original.polarity && turnedRound(one.text) === turnedRound(one.original.text)
    ? one.original.text
    : turnedRound(one.text);
}

/** Whether it says something else than at first. */
export function isChanged(one) {
  return one.text !== one.original.text || one.polarity !== one.original.polarity;
}

/** Makes it say what it said at first. */
export function restore(one) {
  Object.assign(one, one.original, { deleted: false });
}

/**
 * The wishes as the server takes them, and which is which.
 *
 * @param {Object[]} wishes Preferences in words; what is deleted, empty or of no weight is left out.
 * @param {Object<string, number>} attributes Values from -1 to 1 by name; 0 says nothing.
 * @returns {{taken: Object[], leftOut: number}} At most `MOST_WISHES`, and how many there are beside.
 */
export function asked(wishes, attributes) {
  const words = wishes
    .filter((one) => !one.deleted && one.text.trim() !== "" && one.weight > 0)
    .map((one) => ({ text: one.text.trim(), polarity: one.polarity, strength: one.weight }));
  const named = Object.entries(attributes)
    .filter(([, value]) => value !== 0)
    .map(([attribute, value]) => ({
      attribute,
      polarity: value > 0 ? "like" : "avoid",
      strength: Math.abs(value),
    }));
  const all = [...words, ...named];
  return { taken: all.slice(0, MOST_WISHES), leftOut: Math.max(0, all.length - MOST_WISHES) };
}
