/** Numbers and names as a person says them. */

/** A name from the server with spaces for underscores. */
export function named(name) {
  return name.replaceAll("_", " ");
}

/** The same with a capital letter. */
export function titled(name) {
  const spaced = named(name);
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** A number with its sign, a true minus where it is negative. */
export function signed(value, digits = 2) {
  const shown = Math.abs(value).toFixed(digits);
  if (Number(shown) === 0) return shown;
  return (value < 0 ? "−" : "+") + shown;
}

/** A number with a true minus. */
export function plain(value, digits = 2) {
  return value.toFixed(digits).replace("-", "−");
}

/** How much a preference matters, from 0 to 1. */
export function strengthInWords(strength) {
  if (strength === 0) return "not at all";
  const words = strength < 0.25 ? "a little" : strength < 0.6 ? "somewhat" : strength < 0.9 ? "much" : "fully";
  return `${words}, ${strength.toFixed(2)}`;
}

/** A wish on an attribute, from -1 to 1, 0 saying nothing. */
export function wishInWords(value) {
  if (value === 0) return "nothing said";
  const size = Math.abs(value);
  const words = size < 0.35 ? "a little" : size < 0.75 ? "rather" : "strongly";
  return `${value > 0 ? "wanted" : "avoided"} ${words}, ${signed(value, 1)}`;
}

/** The same in fewer words. */
export function wishInShort(value) {
  if (value === 0) return "nothing said";
  return `${value > 0 ? "wanted" : "avoided"} ${signed(value, 1)}`;
}

/** A value of a style dimension: compared with others in the same situation. */
export function styleInWords(value) {
  if (Math.abs(value) < 0.05) return "as most do, 0";
  const size = Math.abs(value);
  const words = size < 0.35 ? "a little" : size < 0.75 ? "clearly" : "far";
  return `${words} ${value > 0 ? "more" : "less"}, ${signed(value, 1)}`;
}

/** The same in fewer words. */
export function styleInShort(value) {
  if (Math.abs(value) < 0.05) return "as most";
  return `${value > 0 ? "more" : "less"} ${signed(value, 1)}`;
}

/** A price, or nothing where there is none. */
export function price(cents) {
  if (cents === null) return null;
  return `$${(cents / 100).toFixed(2)}`;
}

/** Stars with their number, or nothing. */
export function stars(rating) {
  if (rating === null) return null;
  const full = Math.round(rating);
  return "★".repeat(full) + "☆".repeat(Math.max(0, 5 - full));
}

/** "1 item", "3 items". */
export function counted(count, one, several = `${one}s`) {
  return `${count} ${count === 1 ? one : several}`;
}

const OPENINGS = [
  [/^looks for /i, "Avoids "],
  [/^wants /i, "Avoids "],
  [/^likes /i, "Avoids "],
  [/^prefers /i, "Avoids "],
  [/^avoids /i, "Looks for "],
  [/^dislikes /i, "Looks for "],
];

/** A preference turned round in its first words, where they are known; the same text if not. */
export function turnedRound(text) {
  for (const [opening, other] of OPENINGS) {
    if (opening.test(text)) return text.replace(opening, other);
  }
  return text;
}

/** A preference without its first words, for a narrow place. */
export function shortened(text) {
  const rest = text.replace(/^(looks for|wants|likes|prefers|avoids|dislikes) /i, "");
  return rest.replace(/\.$/, "");
}
