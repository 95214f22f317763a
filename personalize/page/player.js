/** Plays a closed-loop ride: play, pause, and a slider through its time. */

import { element, freshId } from "./element.js";

/**
 * @param {function(number): void} ontime Called with the time that is shown, in seconds.
 * @returns {{place: HTMLElement, load: function(number): void, clear: function(): void,
 *   time_s: number}}
 */
export function player(ontime) {
  const id = freshId("time");
  let length_s = 0;
  let time_s = 0;
  let frame = null;
  const button = element("button", { type: "button", onclick: () => (frame === null ? play() : pause()) }, "Play");
  const output = element("output", { for: id });
  const scrub = element("input", {
    id, type: "range", min: 0, max: 1, step: 0.1, value: 0, "aria-valuetext": "0.0 seconds",
    oninput: (event) => {
      pause();
      go(Number(event.target.value));
    },
  });
  const place = element("div", { class: "player", hidden: true }, button,
    element("label", { for: id, class: "unseen" }, "Time in the ride"), scrub, output);

  function go(seconds) {
    time_s = Math.min(Math.max(seconds, 0), length_s);
    scrub.value = time_s;
    scrub.style.setProperty("--low", "0%");
    scrub.style.setProperty("--high", `${(time_s / length_s) * 100}%`);
    output.value = `${time_s.toFixed(1)} of ${length_s.toFixed(1)} s`;
    scrub.setAttribute("aria-valuetext", `${time_s.toFixed(1)} seconds`);
    ontime(time_s);
  }

  function play() {
    if (time_s >= length_s - 1e-6) go(0);
    button.textContent = "Pause";
    let before = null;
    const step = (now) => {
      go(time_s + (before === null ? 0 : (now - before) / 1000));
      before = now;
      if (time_s >= length_s) pause();
      else frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
  }

  function pause() {
    if (frame !== null) cancelAnimationFrame(frame);
    frame = null;
    button.textContent = "Play";
  }

  return {
    place,
    get time_s() {
      return place.hidden ? null : time_s;
    },
    /** Gets a ride of this length ready; it begins by itself unless less motion is asked for. */
    load(seconds) {
      pause();
      length_s = seconds;
      scrub.max = seconds;
      place.hidden = false;
      go(0);
      if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) play();
    },
    clear() {
      pause();
      place.hidden = true;
    },
  };
}
