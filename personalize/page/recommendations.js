/** The view of recommendations: for whom, what they want, and what is recommended. */

import { announce } from "./announcer.js";
import { attributeSliders } from "./attributes.js";
import { changes, changesInWords } from "./changes.js";
import { element, freshId } from "./element.js";
import { Latest } from "./latest.js";
import { notice } from "./notice.js";
import { personBox } from "./person.js";
import { rankings } from "./rankings.js";
import { post } from "./server.js";
import { settingsBar } from "./settings.js";
import { reachedInWords, steeringPanel } from "./steering.js";
import { wishList } from "./wish_list.js";
import { MOST_WISHES, asked } from "./wishes.js";
import { counted } from "./words.js";

/** Fills the panel and asks for the first user's recommendations. */
export function mountRecommendations(panel, info) {
  const trouble = notice();
  const lists = rankings();
  const verdict = element("p", { class: "verdict" });
  const crowd = notice();
  const results = element("div", { class: "results", "aria-busy": "false" }, lists.place);
  const latest = new Latest({
    onbusy: (busy) => results.setAttribute("aria-busy", String(busy)),
    onerror: (error) => trouble.say(error.message),
  });
  const plains = new Map();
  let before = null;

  const settings = settingsBar(info.items.modes ?? null, (at_once) => ask({ at_once }));
  const sliders = attributeSliders(info.attributes.map(withText), () => ask());
  const steering = steeringPanel(info.items.steering ?? null, (at_once) => ask({ at_once }));
  const person = personBox({
    onchange: (wishes) => {
      if (wishes !== null) list.set(wishes);
      before = null;
      ask({ at_once: true });
    },
  });
  const list = wishList({
    onchange: (at_once) => ask({ at_once }),
    onfocus: (key) => person.point(key),
    titleOf: (source) => person.titleOf(source),
  });

  function ask({ at_once = false } = {}) {
    const who = person.asked;
    if (who === null) {
      latest.stop();
      results.setAttribute("aria-busy", "false");
      results.hidden = true;
      return;
    }
    latest.run((signal) => answer(who, signal), { at_once });
  }

  async function answer(who, signal) {
    const { mode, k, filters } = settings.state;
    const question = { collection: "items", ...who, mode, k, filters };
    const { taken, leftOut } = asked(list.wishes, sliders.values);
    const towards = steering.asked === null ? {} : { steering: steering.asked };
    const [plain, found] = await Promise.all([
      withoutWishes(question, signal),
      post(["retrieve"], { ...question, preferences: taken, ...towards }, { signal }),
    ]);
    if (signal.aborted) return;
    trouble.clear();
    results.hidden = false;
    lists.show(plain, found);
    steering.show(found.steered ?? null);
    if (leftOut > 0) crowd.say(crowdInWords(leftOut));
    else crowd.clear();
    tell(plain, found);
  }

  async function withoutWishes(question, signal) {
    const key = JSON.stringify(question);
    if (!plains.has(key)) {
      plains.set(key, await post(["retrieve"], { ...question, preferences: [], explain: false }, { signal }));
      if (plains.size > 30) plains.delete(plains.keys().next().value);
    }
    return plains.get(key);
  }

  function tell(plain, found) {
    const ids = found.items.map((one) => one.item.id);
    const { entered, moved } = changes(plain.items.map((one) => one.item.id), ids);
    verdict.textContent = verdictInWords(found, { entered, moved });
    const said = before === null ? verdict.textContent : changesInWords(before, ids);
    announce([said, reachedInWords(found.steered)].filter(Boolean).join(" "));
    before = ids;
  }

  function verdictInWords({ items, preferences, model, steered }, { entered, moved }) {
    if (items.length === 0) return "Nothing passes these filters.";
    const goals = steered?.goals.length ?? 0;
    if (preferences.length === 0 && goals === 0) return "Nothing is said about what is wanted: both lists are the same.";
    if (goals === 0 && info.items.reads_preferences === false && items.every((one) => one.score_change === 0)) {
      return `Preferences change nothing here: the recommender ${model} was trained without any.`;
    }
    const said = [[preferences.length, "preference"], [goals, "goal"]].filter(([count]) => count > 0);
    return `With ${said.map(([count, one]) => counted(count, one)).join(" and ")}, ${entered} of ${counted(items.length, "item")} ` +
      `${entered === 1 ? "is" : "are"} new and ${moved} ${moved === 1 ? "is" : "are"} in another place.`;
  }

  panel.replaceChildren(
    element("h2", { class: "unseen" }, "Recommendations"),
    element("div", { class: "columns" },
      element("div", { class: "steer" },
        element("section", {}, element("h3", {}, "For whom"), person.place),
        element("section", {}, element("h3", {}, "What they want"), list.place, reader(list)),
        element("section", {}, element("h3", {}, "By attribute"),
          element("p", { class: "soft" }, "Right is wanted, left is avoided, the middle says nothing."),
          sliders.place),
        steering.place
          ? element("section", {}, element("h3", {}, "What the list should be like"), steering.place)
          : null),
      element("div", { class: "show" }, settings.place, trouble.place, crowd.place, verdict, results)));
  person.begin();
}

/** An attribute as a name and a sentence; a server may name it without one. */
function withText(attribute) {
  return typeof attribute === "string" ? { name: attribute, text: null } : attribute;
}

function crowdInWords(leftOut) {
  return `One question holds ${MOST_WISHES} preferences, so the last ${leftOut === 1 ? "one is" : `${leftOut} are`} left out. ` +
    "Those that are deleted, or matter not at all, do not count.";
}

/** A quote from a text that was typed: its number is not that of any review of the data. */
function unnumbered(quote) {
  return { ...quote, source: null };
}

/** A form that has the preferences in a text read, and adds them. */
function reader(list) {
  const id = freshId("reader");
  const trouble = notice();
  const text = element("textarea", { id, rows: 3, maxlength: 20000, placeholder: "Light enough to carry all day. The strap hurts my shoulder." });
  const rating = element("select", { "aria-label": "Stars given with it" },
    element("option", { value: "" }, "no stars"),
    [5, 4, 3, 2, 1].map((n) => element("option", { value: n }, counted(n, "star"))));
  async function read(event) {
    event.preventDefault();
    trouble.clear();
    if (text.value.trim() === "") return;
    const review = { text: text.value, rating: rating.value === "" ? null : Number(rating.value) };
    try {
      const answer = await post(["preferences"], { reviews: [review] });
      answer.preferences.forEach((one) => list.add({ ...one, evidence: one.evidence.map(unnumbered) }));
      announce(`${counted(answer.preferences.length, "preference")} read.`);
      if (answer.preferences.length === 0) trouble.say("No preference was found in this text.");
      else text.value = "";
    } catch (error) {
      trouble.say(error.message);
    }
  }
  return element("details", { class: "reader" }, element("summary", {}, "Read preferences in a review"),
    element("form", { class: "add", onsubmit: read }, element("label", { for: id }, "A review"), text,
      element("div", { class: "row" }, rating, element("button", { type: "submit" }, "Read it")), trouble.place));
}
