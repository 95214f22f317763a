/** Speed over time of every way to drive, on one scale, with a line at the present of the player. */

import { drawn } from "./element.js";
import { LOOKS, colourOf } from "./styles.js";

const [TALL, LEFT, RIGHT, TOP, FOOT] = [150, 58, 14, 10, 24];

/**
 * A drawing with `show(curves, now_mps)` and `at(time_s)`.
 *
 * A curve is `{name, trajectory}`; one that begins later than now starts at `now_mps`.
 */
export function speedStrip() {
  const title = drawn("title", {});
  const inside = drawn("g", {});
  const cursor = drawn("line", { class: "cursor", y1: TOP, y2: TALL - FOOT, visibility: "hidden" });
  const picture = drawn("svg", { class: "speeds", role: "img" }, title, inside, cursor);
  let place = () => LEFT;

  function at(time_s) {
    cursor.setAttribute("visibility", time_s === null ? "hidden" : "visible");
    cursor.setAttribute("x1", place(time_s ?? 0));
    cursor.setAttribute("x2", place(time_s ?? 0));
  }

  function show(curves, now_mps) {
    const wide = Math.max(picture.clientWidth, 240);
    picture.setAttribute("viewBox", `0 0 ${wide} ${TALL}`);
    const rows = curves.map(({ name, trajectory }) => [name, timed(trajectory, now_mps)]);
    const longest = Math.max(1, ...rows.map(([, row]) => row.at(-1)[0]));
    const fastest = Math.max(5, ...rows.flatMap(([, row]) => row.map(([, speed]) => speed)));
    const top = 2 * Math.ceil((fastest * 1.05) / 2);
    const x = (seconds) => LEFT + (seconds / longest) * (wide - LEFT - RIGHT);
    const y = (speed) => TALL - FOOT - (Math.max(speed, 0) / top) * (TALL - FOOT - TOP);
    inside.replaceChildren(...scale({ x, y, longest, top, wide }), ...rows.map(([name, row]) =>
      drawn("polyline", {
        class: `curve ${colourOf(name)}`,
        points: row.map(([seconds, speed]) => `${x(seconds).toFixed(1)},${y(speed).toFixed(1)}`).join(" "),
        "stroke-dasharray": LOOKS[name].dash,
      })));
    title.textContent = "Speed over time. " + rows.map(([name, row]) =>
      `${name}: ${row[0][1].toFixed(1)} to ${row.at(-1)[1].toFixed(1)} metres per second`).join("; ") + ".";
    place = x;
  }

  return { picture, show, at };
}

function timed(trajectory, now_mps) {
  const { start_s, step_s } = trajectory;
  const rows = trajectory.speed_mps.map((speed, n) => [start_s + n * step_s, speed]);
  return start_s > 1e-6 ? [[0, now_mps], ...rows] : rows;
}

function scale({ x, y, longest, top, wide }) {
  const marks = [];
  for (const speed of [0, top / 2, top]) {
    marks.push(drawn("line", { class: "grid", x1: LEFT, x2: wide - RIGHT, y1: y(speed), y2: y(speed) }),
      drawn("text", { x: LEFT - 8, y: y(speed) + 4, class: "end" }, `${speed} m/s`));
  }
  for (let seconds = 0; seconds <= longest + 0.01; seconds += longest > 5 ? 2 : 1) {
    marks.push(drawn("text", { x: x(seconds), y: TALL - 6, class: "middle" }, `${seconds} s`));
  }
  return marks;
}
