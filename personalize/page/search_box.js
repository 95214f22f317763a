/** A search box with a list of what was found: a combobox for mouse, keyboard and screen reader. */

import { announce } from "./announcer.js";
import { element, freshId, refill } from "./element.js";
import { Latest } from "./latest.js";
import { counted } from "./words.js";

/**
 * @param {Object} options `label`; `placeholder`; `find(text, signal)` gives a promise of
 *   `{total, found: [{key, title, note}]}`; `onpick(one)`; `keeps`: whether the title that was
 *   picked stays in the box.
 * @returns {{place: HTMLElement, input: HTMLInputElement, show: function(string): void}} `show`
 *   puts the title of what was picked elsewhere into the box.
 */
export function searchBox({ label, placeholder = "", find, onpick, keeps = false }) {
  const id = freshId("search");
  const input = element("input", {
    id,
    type: "text",
    role: "combobox",
    placeholder,
    autocomplete: "off",
    spellcheck: "false",
    "aria-expanded": "false",
    "aria-controls": `${id}-list`,
    "aria-autocomplete": "list",
  });
  const list = element("ul", { id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true });
  const place = element("div", { class: "search" }, element("label", { for: id }, label), input, list);
  let found = [];
  let chosen = -1;
  let picked = null; // its title in the box is an answer, not a question
  const latest = new Latest({ onerror: (error) => show([element("li", { class: "soft" }, error.message)]) });

  function show(rows) {
    refill(list, rows);
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }

  function close() {
    latest.stop();
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function look({ at_once = false } = {}) {
    latest.run(async (signal) => {
      const typed = input.value.trim();
      const answer = await find(typed === picked ? "" : typed, signal);
      if (signal.aborted || document.activeElement !== input) return;
      found = answer.found;
      chosen = -1;
      input.removeAttribute("aria-activedescendant");
      const more = answer.total - found.length;
      show([
        ...found.map(option),
        found.length === 0 ? element("li", { class: "soft" }, "Nothing found.") : null,
        more > 0 ? element("li", { class: "soft" }, `and ${more} more; type to narrow it down`) : null,
      ]);
      announce(`${counted(answer.total, "result")}.`);
    }, { at_once });
  }

  function option(one, number) {
    return element("li", {
      id: `${id}-${number}`,
      role: "option",
      "aria-selected": "false",
      onmousedown: (event) => event.preventDefault(),
      onclick: () => pick(number),
    }, element("span", {}, one.title), one.note ? element("small", {}, one.note) : null);
  }

  function choose(number) {
    chosen = (number + found.length) % found.length;
    list.querySelectorAll("[role=option]").forEach((row, place) => {
      row.setAttribute("aria-selected", String(place === chosen));
      if (place === chosen) row.scrollIntoView({ block: "nearest" });
    });
    input.setAttribute("aria-activedescendant", `${id}-${chosen}`);
  }

  function pick(number) {
    const one = found[number];
    close();
    showPicked(one.title);
    onpick(one);
  }

  function showPicked(title) {
    picked = title;
    input.value = keeps ? title : "";
  }

  const keys = {
    ArrowDown: () => (list.hidden ? look({ at_once: true }) : choose(chosen + 1)),
    ArrowUp: () => (list.hidden ? look({ at_once: true }) : choose(chosen < 0 ? -1 : chosen - 1)),
    Enter: () => !list.hidden && found.length > 0 && pick(Math.max(chosen, 0)),
    Escape: close,
  };
  input.addEventListener("keydown", (event) => {
    const key = keys[event.key];
    if (!key || (event.key.startsWith("Arrow") && found.length === 0 && !list.hidden)) return;
    if (event.key !== "Escape" || !list.hidden) event.preventDefault();
    key();
  });
  input.addEventListener("input", () => look());
  input.addEventListener("click", () => list.hidden && look({ at_once: true }));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", close);
  return { place, input, show: showPicked };
}
