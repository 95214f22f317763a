/** The two lists side by side: without preferences and with, what moved, and why. */

import { movement } from "./changes.js";
import { element, refill, unseen } from "./element.js";
import { named, plain, price, shortened, signed, titled } from "./words.js";

const CHIPS = 2;
const LEAST_CHANGE = 0.005;

/** @returns {{place: HTMLElement, show: function(Object, Object): void}} */
export function rankings() {
  const without = element("ol", { class: "ranking" });
  const withThem = element("ol", { class: "ranking" });
  const opened = new Set();
  const heading = element("h3", { id: "with-heading" }, "With preferences");
  const other = element("h3", { id: "without-heading" }, "Without preferences");
  const place = element("div", { class: "rankings" },
    element("section", { class: "with" }, heading, withThem),
    element("section", { class: "without" }, other, without));
  withThem.setAttribute("aria-labelledby", "with-heading");
  without.setAttribute("aria-labelledby", "without-heading");

  function show(plain, asked) {
    const ranks = new Map(asked.items.map((found, number) => [found.item.id, number + 1]));
    const steered = (asked.steered?.goals.length ?? 0) > 0;
    heading.textContent = steered ? "With preferences and goals" : "With preferences";
    other.textContent = steered ? "Without either" : "Without preferences";
    // A steered list has moved from the plain one, not from its own without preferences.
    const before = new Map(plain.items.map((found, number) => [found.item.id, number + 1]));
    const from = (found) => (steered ? before.get(found.item.id) ?? null : found.rank_without_preferences);
    const moves = steered || asked.preferences.length > 0;
    reorder(withThem, asked.items, (found, rank) =>
      withRow(found, rank, asked.preferences, opened, moves ? movement(rank, from(found)) : null));
    reorder(without, plain.items, (found, rank) => withoutRow(found, rank, ranks.get(found.item.id)));
  }

  return { place, show };
}

/** Rows in another order; what stays glides to its new place, unless less motion is asked for. */
function reorder(list, found, row) {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const inHand = document.activeElement?.closest?.("li[data-id]")?.dataset.id;
  const held = list.contains(document.activeElement);
  const tops = new Map([...list.children].map((old) => [old.dataset.id, old.offsetTop]));
  refill(list, found.map((one, number) => row(one, number + 1)));
  if (held) list.querySelector(`[data-id="${CSS.escape(inHand)}"] summary`)?.focus({ preventScroll: true });
  if (still) return;
  for (const made of list.children) {
    const from = tops.get(made.dataset.id);
    if (from === undefined) {
      if (tops.size > 0) made.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 260 });
    } else if (from !== made.offsetTop) {
      const by = `translateY(${from - made.offsetTop}px)`;
      made.animate([{ transform: by }, { transform: "none" }], { duration: 260, easing: "ease-out" });
    }
  }
}

function withRow(found, rank, wishes, opened, moved) {
  return element("li", { "data-id": found.item.id },
    element("span", { class: "rank" }, rank),
    element("div", { class: "what" }, ...naming(found.item)),
    moved === null ? element("span") : badge(moved),
    why(found, wishes, opened));
}

function withoutRow(found, rank, now) {
  const gone = now === undefined;
  const moved = gone
    ? { way: "gone", arrow: "✕", short: "out", long: "not in the list with preferences" }
    : { ...movement(now, rank), long: now === rank ? "in the same place" : `now ${now}` };
  return element("li", { "data-id": found.item.id },
    element("span", { class: "rank" }, rank),
    element("div", { class: "what" }, ...naming(found.item)),
    badge(moved));
}

function badge(moved) {
  return element("span", { class: `move ${moved.way}`, title: moved.long },
    element("span", { "aria-hidden": "true" }, `${moved.arrow} ${moved.short}`), unseen(moved.long));
}

function naming(item) {
  const rest = [item.categories.at(-1), price(item.price_cents), item.added ? "added" : null];
  return [
    element("p", { class: "title" }, item.title ?? item.id),
    element("p", { class: "soft" }, rest.filter(Boolean).join(" · ")),
  ];
}

function chips(found, wishes) {
  const strongest = found.reasons
    .filter((reason) => Math.abs(reason.score_change) >= LEAST_CHANGE)
    .slice(0, CHIPS);
  if (strongest.length === 0) return [element("span", {}, "no preference matters")];
  return [element("span", {}, "because of "), ...strongest.map((reason) => element("span", {
    class: reason.score_change > 0 ? "chip up" : "chip down",
    title: wishes[reason.preference].text,
  }, element("span", { class: "cut" }, chipText(wishes[reason.preference])),
    element("b", {}, `: ${signed(reason.score_change)}`)))];
}

function chipText(wish) {
  const about = wish.attribute ? named(wish.attribute) : shortened(wish.text);
  return (wish.polarity === "avoid" ? "not " : "") + about;
}

function inFull(wish) {
  return wish.attribute ? `${titled(wish.attribute)}: ${wish.text}` : wish.text;
}

function why(found, wishes, opened) {
  if (found.reasons.length === 0) return null;
  const key = found.item.id;
  return element("details", {
    open: opened.has(key),
    ontoggle: (event) => (event.target.open ? opened.add(key) : opened.delete(key)),
  }, element("summary", { class: "chips" }, unseen(`${found.item.title ?? key}, why: `), chips(found, wishes)),
    element("ul", {}, found.reasons.map((reason) => element("li", {},
      element("b", {}, signed(reason.score_change)), " ", inFull(wishes[reason.preference]), " ",
      element("span", { class: "soft" }, withoutIt(reason))))),
    element("p", { class: "soft" },
      `All together ${signed(found.score_change)}; score ${plain(found.score)}.`));
}

function withoutIt(reason) {
  return reason.rank_without === null
    ? "Without it not among those compared."
    : `Without it in place ${reason.rank_without}.`;
}
