/** The view of driving: a scene from above, and how several styles would drive on from here. */

import { announce } from "./announcer.js";
import { element, refill } from "./element.js";
import { Latest } from "./latest.js";
import { notice } from "./notice.js";
import { player } from "./player.js";
import { road } from "./road.js";
import { scenePicker } from "./scene_picker.js";
import { scoreTable } from "./scores.js";
import { get, post } from "./server.js";
import { speedStrip } from "./speeds.js";
import { reachedInWords, steeringPanel } from "./steering.js";
import { askedStyle, styleLegend, styleSliders } from "./styles.js";
import { named } from "./words.js";

const RIDE_S = 4; // as long as rides are scored; logs often end soon after
const ZOOMS = [0.5, 0.7, 1, 1.4, 2, 2.8];

/** Fills the panel and shows the first scene. */
export function mountDriving(panel, info) {
  const trouble = notice();
  const picture = road();
  const strip = speedStrip();
  const table = scoreTable();
  const facts = element("div", { class: "facts" });
  const show = element("div", { class: "show", "aria-busy": "false", hidden: true });
  const plans = new Map();
  const rides = new Map();
  let view = null;
  let zoom = ZOOMS.indexOf(1);

  const busy = (is) => show.setAttribute("aria-busy", String(is));
  const onerror = (error) => {
    driveOn.disabled = false;
    trouble.say(error.message);
  };
  const planning = new Latest({ delay_ms: 120, onbusy: busy, onerror });
  const opening = new Latest({ delay_ms: 0, onbusy: busy, onerror });
  const driving = new Latest({ delay_ms: 0, onbusy: busy, onerror });

  const picker = scenePicker((scene) => opening.run((signal) => open(scene, signal)));
  const legend = styleLegend(() => plan({ at_once: true, spoken: false }));
  const mine = styleSliders(info.style_dimensions, () => {
    forget();
    plan();
  });
  const steering = steeringPanel(info.scenes.steering ?? null, (at_once) => {
    forget();
    plan({ at_once });
  });
  const clock = player(() => tick());
  const driveOn = element("button", {
    type: "button",
    class: "main",
    onclick: () => driving.run(ride),
  }, "Drive on in closed loop");
  const traffic = element("select", { id: "traffic", onchange: () => redraw() });
  const trafficField = element("div", { class: "field", hidden: true },
    element("label", { for: "traffic" }, "Others react to"), traffic);

  async function open(scene, signal) {
    const found = await get(["scenes", scene], { signal });
    if (signal.aborted) return;
    view = found;
    plans.clear();
    forget();
    show.hidden = false;
    picture.scene(view);
    refill(facts, ...sceneFacts(view.scene, { onmine: (style) => mine.set(style), onalike: picker.alike }));
    redraw();
    plan({ at_once: true });
  }

  /** Rides are of the styles as they were: a new style ends them. */
  function forget() {
    driving.stop();
    driveOn.disabled = false;
    rides.clear();
    clock.clear();
    trafficField.hidden = true;
  }

  function askedFor(name) {
    return askedStyle(name, mine.values, steering.asked);
  }

  function keyOf(name) {
    return JSON.stringify(askedFor(name));
  }

  function plan({ at_once = false, spoken = true } = {}) {
    if (view === null) return;
    planning.run(async (signal) => {
      const styles = legend.planned.filter((name) => !plans.has(keyOf(name)));
      if (styles.length > 0) {
        const answer = await post(["plan"], {
          scene: view.scene.id,
          styles: styles.map(askedFor),
        }, { signal });
        if (signal.aborted) return;
        answer.styles.forEach((one, n) => plans.set(keyOf(styles[n]), one));
      }
      trouble.clear();
      redraw();
      const steered = plans.get(keyOf("mine"))?.steered ?? null;
      steering.show(steered);
      if (spoken) announce([inWords(shownPlans()), reachedInWords(steered)].filter(Boolean).join(" "));
    }, { at_once });
  }

  async function ride(signal) {
    const names = legend.planned;
    if (view === null || names.length === 0) return;
    driveOn.disabled = true;
    announce("Driving on.");
    const answer = await post(["plan"], {
      scene: view.scene.id,
      styles: names.map(askedFor),
      closed_loop: true,
      ride_s: RIDE_S,
    }, { signal });
    driveOn.disabled = false;
    if (signal.aborted) return;
    trouble.clear();
    rides.clear();
    answer.styles.forEach((one, n) => one.ride && rides.set(names[n], one.ride));
    const driven = [...rides.keys()];
    if (driven.length === 0) return;
    refill(traffic, driven.map((name) => element("option", { value: name }, name)));
    traffic.value = driven.includes("mine") ? "mine" : driven[0];
    trafficField.hidden = driven.length < 2;
    const { ego } = rides.get(driven[0]);
    clock.load(ego.start_s + (ego.x_m.length - 1) * ego.step_s);
    redraw();
    announce(`Driven on in ${driven.length} styles; ready to play.`);
  }

  function shownPlans() {
    return legend.planned
      .filter((name) => plans.has(keyOf(name)))
      .map((name) => ({ ...plans.get(keyOf(name)), name }));
  }

  function state() {
    return { plans: shownPlans(), rides, traffic: traffic.value, time_s: clock.time_s ?? 0 };
  }

  /** What moves as a ride is played. */
  function tick() {
    if (view === null) return;
    picture.move(state());
    strip.at(clock.time_s);
  }

  function redraw() {
    if (view === null) return;
    const now = state();
    picture.show({
      ...now,
      showsDriven: legend.showsDriven,
      zoom: ZOOMS[zoom],
      words: `Seen from above, the ego drives to the right. ${inWords(now.plans)}`,
    });
    const rows = now.plans.map((plan) => {
      const driven = rides.get(plan.name);
      return { name: plan.name, sub_scores: driven?.sub_scores ?? plan.sub_scores, trajectory: driven?.ego ?? plan.plan };
    });
    table.show(rows, rides.size > 0 ? "Scores of the ride in closed loop" : "Scores of the plans");
    const curves = legend.showsDriven ? [...rows, { name: "as driven", trajectory: view.ego_future }] : rows;
    strip.show(curves, view.ego_past.speed_mps.at(-1) ?? 0);
    strip.at(clock.time_s);
  }

  function zoomed(by) {
    zoom = Math.min(Math.max(zoom + by, 0), ZOOMS.length - 1);
    nearer.disabled = zoom === ZOOMS.length - 1;
    farther.disabled = zoom === 0;
    redraw();
  }
  const nearer = element("button", { type: "button", onclick: () => zoomed(1) }, "Nearer");
  const farther = element("button", { type: "button", onclick: () => zoomed(-1) }, "Farther");

  refill(show,
    element("div", { class: "picture" }, picture.picture,
      element("div", { class: "zoom" }, nearer, farther)),
    element("div", { class: "ride" }, driveOn, clock.place, trafficField),
    element("div", { class: "ways-to-drive" }, legend.place),
    table.place,
    element("section", { class: "speed" }, element("h3", {}, "Speed over time"), strip.picture),
    facts);
  panel.replaceChildren(
    element("h2", { class: "unseen" }, "Driving"),
    element("div", { class: "columns" },
      element("div", { class: "steer" },
        element("section", { class: "where" }, element("h3", {}, "Where"), picker.place),
        element("section", { class: "mine" }, element("h3", {}, "My way to drive"),
          element("p", { class: "soft" }, "Compared with most drivers in the same situation. What is left open is for the planner to choose."),
          mine.place,
          element("button", { type: "button", class: "quiet", onclick: () => mine.set({}) }, "Leave all open"),
          steering.place ? element("h4", {}, "What my plan should be like") : null,
          steering.place)),
      element("div", { class: "drive" }, trouble.place, show)));
  new ResizeObserver(() => redraw()).observe(picture.picture);
  picker.begin();
}

function inWords(plans) {
  return plans.map(({ name, plan }) => {
    const seconds = plan.start_s + (plan.x_m.length - 1) * plan.step_s;
    const far = Math.hypot(plan.x_m.at(-1), plan.y_m.at(-1));
    return `${name}: ${far.toFixed(0)} metres in ${seconds.toFixed(0)} seconds`;
  }).join("; ") + (plans.length > 0 ? "." : "");
}

function sceneFacts(scene, { onmine, onalike }) {
  const rows = [
    ["Situation", named(scene.scenario_type)],
    ["Driven", scene.label],
    ["Place", scene.location],
    ["Recording", `${scene.source}, ${scene.split}${scene.simulated ? ", simulated" : ""}`],
  ];
  return [
    element("h3", {}, "The scene"),
    element("p", { class: "description" }, scene.description),
    element("dl", {}, rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
    element("div", { class: "row" },
      element("button", { type: "button", onclick: () => onmine(scene.style) }, "Drive like this driver"),
      element("button", { type: "button", onclick: () => onalike(scene.id) }, "Find scenes like this one")),
  ];
}
