/** What somebody met, oldest first, with the reviews and where in them a preference was read. */

import { element, refill, unseen } from "./element.js";
import { counted, stars } from "./words.js";

/**
 * A review in pieces: text, and marks where a preference was read.
 *
 * Places of quotes count characters (code points), as the server does, not the halves of them that
 * JavaScript counts.
 *
 * @param {string} review The text.
 * @param {{key: string, start: number, end: number}[]} spans Who read what where; may overlap.
 * @returns {{text: string, keys: string[]}[]} The pieces in order; `keys` is empty between marks.
 */
export function pieces(review, spans) {
  const characters = Array.from(review);
  const ends = spans.flatMap((span) => [span.start, span.end]);
  const cuts = [...new Set([0, ...ends, characters.length])]
    .filter((cut) => cut >= 0 && cut <= characters.length)
    .sort((a, b) => a - b);
  return cuts.slice(1).map((end, number) => ({
    text: characters.slice(cuts[number], end).join(""),
    keys: spans.filter((span) => span.start < end && span.end > cuts[number]).map((span) => span.key),
  }));
}

/** @returns {{place: HTMLElement, show: function(Object[], Object[]): void,
 *   point: function(string|null): void}} */
export function historyList() {
  const heading = element("h4", {});
  const list = element("ol", {});
  const box = element("div", { class: "history", tabindex: 0, role: "region", "aria-label": "History and reviews" }, list);
  const place = element("div", { hidden: true }, heading, box);

  function met(one, wishes) {
    const spans = wishes.flatMap((each) => each.evidence
      .filter((quote) => quote.source === one.review_id)
      .map((quote) => ({ key: each.key, start: quote.start, end: quote.end })));
    const given = stars(one.rating);
    return element("li", {},
      element("p", { class: "title" }, one.item.title ?? one.item.id, " ",
        given ? element("span", { class: "stars", "aria-hidden": "true" }, given) : null,
        given ? unseen(`${one.rating} of 5 stars`) : null),
      one.review
        ? element("p", { class: "review" }, pieces(one.review, spans).map((piece) =>
          piece.keys.length === 0
            ? piece.text
            : element("mark", { "data-keys": piece.keys.join(" ") }, piece.text)))
        : null);
  }

  return {
    place,
    show(history, wishes) {
      place.hidden = history.length === 0;
      heading.textContent = `Met ${counted(history.length, "item")}, oldest first`;
      refill(list, history.map((one) => met(one, wishes)));
      box.scrollTop = 0;
    },
    point(key) {
      let first = null;
      for (const mark of list.querySelectorAll("mark")) {
        const here = key !== null && mark.dataset.keys.split(" ").includes(key);
        mark.classList.toggle("here", here);
        if (here) first ??= mark;
      }
      if (first) {
        const [mark, around] = [first.getBoundingClientRect(), box.getBoundingClientRect()];
        box.scrollTop += mark.top - around.top - around.height / 3;
      }
    },
  };
}
