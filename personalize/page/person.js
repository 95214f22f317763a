/** For whom to recommend: a user of the data, or somebody made of a few items. */

import { element, refill, unseen } from "./element.js";
import { historyList } from "./history.js";
import { Latest } from "./latest.js";
import { notice } from "./notice.js";
import { searchBox } from "./search_box.js";
import { get } from "./server.js";
import { price } from "./words.js";
import { wish } from "./wishes.js";

const SHOWN = 12;

/**
 * The box that says for whom.
 *
 * @param {Object} options `onchange(wishes)` when it is somebody else, with what was read in the
 *   reviews, or null if the preferences stay as they are.
 */
export function personBox({ onchange }) {
  const trouble = notice();
  const history = historyList();
  const choosing = new Latest({ delay_ms: 0, onerror: (error) => trouble.say(error.message) });
  let user = null;
  let view = null;
  let items = [];

  const users = searchBox({
    label: "A user of the data",
    placeholder: "search by id",
    keeps: true,
    find: async (query, signal) => {
      const page = await get(["users"], { query: { query, start: 0, count: SHOWN }, signal });
      return { total: page.total, found: page.users.map((id) => ({ key: id, title: id })) };
    },
    onpick: (one) => choose(one.key),
  });
  const wares = searchBox({
    label: "Add an item to the history",
    placeholder: "search the catalogue",
    find: async (query, signal) => {
      const page = await get(["items"], { query: { query, start: 0, count: SHOWN }, signal });
      return {
        total: page.total,
        found: page.items.map((item) => ({
          key: item.id,
          title: item.title ?? item.id,
          note: [item.categories.at(-1), price(item.price_cents)].filter(Boolean).join(" · "),
          item,
        })),
      };
    },
    onpick: (one) => {
      items.push(one.item);
      made();
    },
  });
  const chosen = element("ol", { class: "chosen" });
  const none = element("p", { class: "soft" }, "Nobody yet: add the first item they met.");
  const ofData = element("div", {}, users.place, history.place);
  const ofItems = element("div", { hidden: true }, wares.place, none, chosen);
  const ways = element("fieldset", { class: "ways" }, element("legend", { class: "unseen" }, "Who"),
    way("data", "A user of the data", true), way("items", "Made of a few items", false));
  const place = element("div", { class: "person" }, ways, trouble.place, ofData, ofItems);

  function way(value, label, checked) {
    return element("label", {}, element("input", {
      type: "radio", name: "who", value, checked,
      onchange: () => {
        ofData.hidden = value !== "data";
        ofItems.hidden = value !== "items";
        if (value === "items") onchange([]);
        else if (user !== null) onchange(view.wishes);
      },
    }), element("span", {}, label));
  }

  function isMade() {
    return !ofItems.hidden;
  }

  function choose(id) {
    trouble.clear();
    choosing.run(async (signal) => {
      const answer = await get(["users", id], { signal });
      user = id;
      view = { history: answer.history, wishes: answer.preferences.map(wish) };
      users.show(id);
      history.show(view.history, view.wishes);
      if (!isMade()) onchange(view.wishes);
    });
  }

  function made() {
    none.hidden = items.length > 0;
    refill(chosen, items.map((item, number) => element("li", {},
      element("span", {}, item.title ?? item.id),
      element("button", {
        type: "button",
        class: "quiet",
        onclick: () => {
          items.splice(number, 1);
          made();
          (chosen.querySelectorAll("button")[Math.max(0, number - 1)] ?? wares.input).focus();
        },
      }, "Remove", unseen(item.title ?? item.id)))));
    onchange(null);
  }

  return {
    place,
    choose,
    point: history.point,
    /** Who it is as a question says it, or null if it is nobody yet. */
    get asked() {
      if (isMade()) return items.length > 0 ? { history: items.map((item) => item.id) } : null;
      return user === null ? null : { user };
    },
    titleOf(source) {
      const met = view?.history.find((one) => one.review_id === source);
      return met ? met.item.title ?? met.item.id : null;
    },
    /** Chooses the first user there is. */
    async begin() {
      try {
        const page = await get(["users"], { query: { query: "", start: 0, count: 1 } });
        if (page.users.length > 0 && user === null) choose(page.users[0]);
      } catch (error) {
        trouble.say(error.message);
      }
    },
  };
}
