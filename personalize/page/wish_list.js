/** The list of preferences: each can be read with its evidence, edited, turned round, deleted. */

import { announce } from "./announcer.js";
import { element, freshId, refill, unseen } from "./element.js";
import { slider } from "./slider.js";
import { isChanged, restore, turn, wish } from "./wishes.js";
import { strengthInWords } from "./words.js";

const SHOWN = 2;

/**
 * @param {Object} options `onchange(at_once)` after every edit; `onfocus(key|null)` when one is in
 *   hand; `titleOf(source)` names the review that a quote is from.
 * @returns {{place: HTMLElement, wishes: Object[], set: function(Object[]): void,
 *   add: function(Object): void}}
 */
export function wishList({ onchange, onfocus, titleOf }) {
  const list = element("ul", { class: "wishes" });
  const gone = element("ul", { class: "gone" });
  const none = element("p", { class: "soft" }, "No preferences. Add one below.");
  const place = element("div", {}, none, list, gone, addForm(add));
  let wishes = [];

  function redraw() {
    refill(list, wishes.filter((one) => !one.deleted).map(card));
    refill(gone, wishes.filter((one) => one.deleted).map(deletedRow));
    none.hidden = wishes.some((one) => !one.deleted);
    gone.hidden = !wishes.some((one) => one.deleted);
  }

  function changed(at_once = true) {
    onchange(at_once);
  }

  function focusOn(key, selector) {
    place.querySelector(`[data-key="${key}"] ${selector}`)?.focus();
  }

  function add(read) {
    const one = wish(read);
    wishes.push(one);
    redraw();
    changed();
  }

  function card(one) {
    const textId = freshId("text");
    const text = element("textarea", {
      id: textId,
      rows: 2,
      maxlength: 2000,
      value: one.text,
      oninput: (event) => {
        one.text = event.target.value;
        undo.hidden = !isChanged(one);
        changed(false);
      },
    });
    const undo = element("button", {
      type: "button",
      class: "quiet",
      hidden: !isChanged(one),
      onclick: () => {
        restore(one);
        redraw();
        focusOn(one.key, "textarea");
        changed();
      },
    }, one.evidence.length > 0 ? "Back to what was read" : "Back to what was typed", unseen(one.original.text));
    const liked = one.polarity === "like";
    return element("li", {
      "data-key": one.key,
      class: liked ? "wish like" : "wish avoid",
      onfocusin: () => onfocus(one.key),
      onfocusout: () => onfocus(null),
      onmouseenter: () => onfocus(one.key),
      onmouseleave: () => onfocus(null),
    },
      element("div", { class: "line" },
        element("button", {
          type: "button",
          class: "polarity",
          onclick: () => {
            turn(one);
            redraw();
            focusOn(one.key, ".polarity");
            changed();
            announce(one.polarity === "like" ? "Now wanted." : "Now avoided.");
          },
        }, element("span", { "aria-hidden": "true" }, liked ? "+" : "−"), liked ? "Wanted" : "Avoided",
          unseen(`turn round: ${one.text}`)),
        undo,
        element("button", {
          type: "button",
          class: "quiet delete",
          onclick: () => {
            one.deleted = true;
            redraw();
            focusOn(one.key, "button");
            changed();
          },
        }, "Delete", unseen(one.text))),
      element("label", { class: "unseen", for: textId }, "Preference in words"),
      text,
      quotes(one),
      slider({
        label: "How much",
        hint: one.readStrength === null ? null : `Read with strength ${one.readStrength.toFixed(2)}.`,
        least: 0, most: 1, step: 0.05, value: one.weight,
        words: strengthInWords,
        onmove: (value) => {
          one.weight = value;
          changed(false);
        },
      }).place);
  }

  function quotes(one) {
    if (one.evidence.length === 0) return null;
    return element("ul", { class: "quotes" }, one.evidence.slice(0, SHOWN).map((quote) =>
      element("li", {}, element("q", {}, quote.quote), " ",
        element("cite", {}, titleOf(quote.source) ?? ""))),
    one.evidence.length > SHOWN
      ? element("li", { class: "soft" }, `and ${one.evidence.length - SHOWN} more, marked in the reviews`)
      : null);
  }

  function deletedRow(one) {
    return element("li", { "data-key": one.key }, element("s", {}, one.text),
      element("button", {
        type: "button",
        class: "quiet",
        onclick: () => {
          one.deleted = false;
          redraw();
          focusOn(one.key, ".polarity");
          changed();
        },
      }, "Restore", unseen(one.text)));
  }

  redraw();
  return {
    place,
    get wishes() {
      return wishes;
    },
    set(others) {
      wishes = others;
      redraw();
    },
    add,
  };
}

function addForm(add) {
  const id = freshId("add");
  const text = element("input", { id, type: "text", maxlength: 2000, placeholder: "light and easy to carry" });
  const polarity = element("select", { "aria-label": "Wanted or avoided" },
    element("option", { value: "like" }, "Wanted"), element("option", { value: "avoid" }, "Avoided"));
  return element("form", {
    class: "add",
    onsubmit: (event) => {
      event.preventDefault();
      if (text.value.trim() === "") return;
      add({ text: text.value.trim(), polarity: polarity.value });
      text.value = "";
      text.focus();
    },
  }, element("label", { for: id }, "Add a preference in your own words"),
    element("div", { class: "row" }, polarity, text, element("button", { type: "submit" }, "Add")));
}
