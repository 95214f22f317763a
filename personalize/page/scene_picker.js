/** Chooses a scene: by words of its description, by a situation, or like another one. */

import { announce } from "./announcer.js";
import { element, freshId, refill } from "./element.js";
import { Latest } from "./latest.js";
import { notice } from "./notice.js";
import { searchBox } from "./search_box.js";
import { get, post } from "./server.js";
import { counted, named } from "./words.js";

const SHOWN = 12;
const NEAREST = 4;

/**
 * @param {function(string): void} onpick Called with the id of a scene.
 * @returns {{place: HTMLElement, alike: function(string): void, begin: function(): void}}
 */
export function scenePicker(onpick) {
  const trouble = notice();
  const looking = new Latest({ delay_ms: 0, onerror: (error) => trouble.say(error.message) });
  const nearest = element("ol", { class: "nearest" });
  const box = searchBox({
    label: "A scene",
    placeholder: "search by word or id",
    keeps: true,
    find: async (query, signal) => {
      const page = await get(["scenes"], { query: { query, start: 0, count: SHOWN }, signal });
      return { total: page.total, found: page.scenes.map((scene) => ({ key: scene.id, title: scene.id, note: noteOf(scene) })) };
    },
    onpick: (one) => onpick(one.key),
  });
  const id = freshId("situation");
  const text = element("input", { id, type: "text", maxlength: 2000, placeholder: "roundabout with many vehicles near" });
  const form = element("form", {
    class: "add",
    onsubmit: (event) => {
      event.preventDefault();
      if (text.value.trim() !== "") look({ text: text.value.trim() });
    },
  }, element("label", { for: id }, "Or describe a situation"),
    element("div", { class: "row" }, text, element("button", { type: "submit" }, "Find")));

  function look(question) {
    trouble.clear();
    looking.run(async (signal) => {
      const answer = await post(["retrieve"], { collection: "scenes", ...question, k: NEAREST }, { signal });
      refill(nearest, answer.scenes.map((one) => element("li", {},
        element("button", { type: "button", class: "pick", onclick: () => pick(one.scene.id) },
          element("span", {}, one.scene.id), element("small", {}, `${noteOf(one.scene)} · ${one.score.toFixed(2)}`)))));
      announce(`${counted(answer.scenes.length, "scene")} found.`);
    });
  }

  function pick(scene) {
    box.show(scene);
    onpick(scene);
  }

  return {
    place: element("div", {}, box.place, form, trouble.place, nearest),
    alike: (scene) => look({ like: scene }),
    async begin() {
      try {
        const page = await get(["scenes"], { query: { query: "", start: 0, count: 1 } });
        if (page.scenes.length > 0) pick(page.scenes[0].id);
      } catch (error) {
        trouble.say(error.message);
      }
    },
  };
}

function noteOf(scene) {
  return `${named(scene.scenario_type)} · ${scene.label}`;
}
