/** The road from above, as a drawing: the ego in the middle of its past and its ways ahead. */

import { drawn } from "./element.js";
import { LOOKS, colourOf, endMark } from "./styles.js";

const MARGIN_M = 9;
const LEAST_WIDE_M = 46;
const LINES = [
  [/drivable|area/, "area"],
  [/centre|center|^lane$/, "lane"],
  [/boundary/, "boundary"],
  [/edge/, "edge"],
  [/crosswalk/, "crosswalk"],
  [/stop/, "stop"],
];
const DEGREES = 180 / Math.PI;

/** Places of a trajectory from the present on, the ego's own place first. */
export function way(trajectory) {
  const points = trajectory.x_m.map((x, n) => [x, trajectory.y_m[n]]);
  return trajectory.start_s > 1e-6 ? [[0, 0], ...points] : points;
}

/** Where a trajectory is at a time: x, y, heading; held at its ends. */
export function poseAt(trajectory, time_s) {
  const last = trajectory.x_m.length - 1;
  const at = Math.min(Math.max((time_s - trajectory.start_s) / trajectory.step_s, 0), last);
  const [low, high] = [Math.floor(at), Math.ceil(at)];
  return [trajectory.x_m, trajectory.y_m, trajectory.heading_rad].map((values, place) => {
    const turn = values[high] - values[low];
    const by = place === 2 ? Math.atan2(Math.sin(turn), Math.cos(turn)) : turn;
    return values[low] + by * (at - low);
  });
}

/** Which part of the road is seen: left, top, width, height in metres, y pointing up. */
export function frame(ways, { ratio, zoom }) {
  const points = ways.flat();
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right] = [Math.min(...xs) - MARGIN_M, Math.max(...xs) + MARGIN_M];
  const [low, high] = [Math.min(...ys) - MARGIN_M, Math.max(...ys) + MARGIN_M];
  const wide = Math.max(right - left, (high - low) * ratio, LEAST_WIDE_M) / zoom;
  const tall = wide / ratio;
  return { left: (left + right - wide) / 2, top: (low + high + tall) / 2, wide, tall };
}

/** The drawing: `scene(view)` draws what stays, `show(state)` the ways, `move(state)` who moves. */
export function road() {
  const title = drawn("title", {});
  const [fixed, ways, movers] = [drawn("g", {}), drawn("g", {}), drawn("g", {})];
  const picture = drawn("svg", { class: "road", role: "img" }, title,
    drawn("g", { transform: "scale(1 -1)" }, fixed, ways, movers));
  let view = null;

  function show({ plans, rides, traffic, time_s, showsDriven, zoom, words }) {
    const box = picture.getBoundingClientRect();
    const ratio = box.height > 0 ? box.width / box.height : 1.6;
    const paths = plans.map((plan) => [plan.name, rides.get(plan.name)?.ego ?? plan.plan]);
    if (showsDriven) paths.push(["as driven", view.ego_future]);
    const kept = [way(view.ego_future), way(view.ego_past).slice(-8), ...paths.map(([, one]) => way(one))];
    const seen = frame(kept, { ratio, zoom });
    picture.setAttribute("viewBox", `${seen.left} ${-seen.top} ${seen.wide} ${seen.tall}`);
    const unit = seen.wide / Math.max(box.width, 300); // metres of a pixel
    const byLength = paths.sort((a, b) => reach(b[1]) - reach(a[1])); // the shortest lies on top
    ways.replaceChildren(...byLength.flatMap(([name, one]) => path(name, one, unit)));
    title.textContent = words;
    move({ plans, rides, traffic, time_s });
  }

  /** Others and the egos of the rides where they are at a time. */
  function move({ plans, rides, traffic, time_s }) {
    movers.replaceChildren(...others(view, rides.get(traffic), time_s), ...egos(view, { plans, rides, traffic, time_s }));
  }

  return {
    picture,
    scene(found) {
      view = found;
      fixed.replaceChildren(...view.lines.map(line).sort(underneath),
        drawn("polyline", { class: "past", points: points(way(view.ego_past)) }));
      const lanes = !view.lines.some((one) => kindOf(one.kind) === "area");
      picture.classList.toggle("lanes-only", lanes);
      if (lanes) {
        fixed.prepend(...view.lines.filter((one) => kindOf(one.kind) === "lane")
          .map((one) => drawn("polyline", { class: "asphalt", points: points(way({ ...one, start_s: 0 })) })));
      }
    },
    show,
    move,
  };
}

function reach(trajectory) {
  return Math.hypot(trajectory.x_m.at(-1), trajectory.y_m.at(-1));
}

const ORDER = ["area", "crosswalk", "lane", "boundary", "edge", "stop", "line"];

function underneath(a, b) {
  return ORDER.indexOf(a.getAttribute("class")) - ORDER.indexOf(b.getAttribute("class"));
}

function kindOf(kind) {
  return LINES.find(([pattern]) => pattern.test(kind))?.[1] ?? "line";
}

function line(one) {
  const kind = kindOf(one.kind);
  const places = points(one.x_m.map((x, n) => [x, one.y_m[n]]));
  return drawn(kind === "area" ? "polygon" : "polyline", { class: kind, points: places });
}

function points(places) {
  return places.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
}

function path(name, trajectory, unit) {
  const places = way(trajectory);
  const pose = poseAt(trajectory, Infinity);
  return [
    drawn("polyline", { class: "casing", points: points(places) }),
    drawn("polyline", {
      class: `way ${colourOf(name)}`,
      "data-style": name,
      points: points(places),
      "stroke-dasharray": LOOKS[name].dash,
    }),
    drawn("g", {
      class: `mark ${colourOf(name)}`,
      transform: `translate(${pose[0]} ${pose[1]}) rotate(${pose[2] * DEGREES})`,
    }, endMark(name, 11 * unit)),
  ];
}

function box(kind, { length_m, width_m }, [x, y, heading], name = null) {
  return drawn("g", {
    class: `user ${kind}${name ? ` ${colourOf(name)}` : ""}`,
    "data-ego": name,
    transform: `translate(${x} ${y}) rotate(${heading * DEGREES})`,
  }, drawn("title", {}, name ? `ego, ${name}` : kind),
  drawn("rect", { x: -length_m / 2, y: -width_m / 2, width: length_m, height: width_m, rx: Math.min(width_m, length_m) * 0.22 }),
  length_m > 2 ? drawn("rect", { class: "front", x: length_m * 0.14, y: -width_m * 0.36, width: length_m * 0.13, height: width_m * 0.72 }) : null);
}

function others(view, ride, time_s) {
  if (!ride) return view.agents.map((one) => box(one.kind, one, [one.x_m, one.y_m, one.heading_rad]));
  return ride.agents.map((one) => {
    const step = Math.min(Math.round(time_s / ride.ego.step_s), one.x_m.length - 1);
    if (one.x_m[step] === null) return null;
    return box(one.kind, one, [one.x_m[step], one.y_m[step], one.heading_rad[step]]);
  }).filter(Boolean);
}

function egos(view, { plans, rides, traffic, time_s }) {
  const here = plans.filter((plan) => rides.has(plan.name));
  const { ego } = view;
  if (here.length === 0) return [box("ego", ego, [ego.x_m, ego.y_m, ego.heading_rad])];
  const first = (plan) => (plan.name === traffic ? 1 : 0); // drawn last, so on top of the others
  return here.sort((a, b) => first(a) - first(b)).map(({ name }) =>
    box(name === traffic ? "ego" : "ego ghost", ego, poseAt(rides.get(name).ego, time_s), name));
}
