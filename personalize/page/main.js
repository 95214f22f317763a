/** Where the page begins: asks what is served, and fills the views when they are first shown. */

import { mountDriving } from "./driving.js";
import { element, refill } from "./element.js";
import { askForKey } from "./key_form.js";
import { mountRecommendations } from "./recommendations.js";
import { get, onKeyNeeded } from "./server.js";
import { watchTabs } from "./tabs.js";
import { counted } from "./words.js";

const VIEWS = {
  recommendations: {
    half: "items",
    heading: "Recommendations",
    command: "make demo",
    mount: mountRecommendations,
  },
  driving: { half: "scenes", heading: "Driving", command: "make demo-driving", mount: mountDriving },
};

function missing(view, why) {
  return element("div", { class: "notice calm missing" },
    element("h2", {}, `${view.heading} cannot be shown here`),
    element("p", {}, why ?? "This server was started without them."),
    element("p", {}, "From the repository, ", element("code", {}, view.command),
      " makes what is needed; then reload or restart the server."));
}

function servedInWords(info) {
  const { items, scenes } = info;
  return [
    items && `Recommender ${items.model}${items.items ? `, ${counted(items.items, "item")}` : ""}`,
    scenes && `Planner ${scenes.planner}`,
    info.package_version && `version ${info.package_version}`,
  ].filter(Boolean).join(" · ");
}

/** Says that the page itself is at fault; what a server refuses is said where it was asked. */
function fail(message) {
  const place = document.getElementById("fault");
  place.hidden = false;
  place.textContent = `Something on this page went wrong: ${message}. Reload it to start anew.`;
}

async function start() {
  onKeyNeeded(askForKey);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("content").focus();
  });
  const loading = document.getElementById("loading");
  window.addEventListener("error", ({ message }) => fail(message));
  window.addEventListener("unhandledrejection", ({ reason }) => fail(reason?.message ?? reason));
  let info = null;
  const mounted = new Set();

  function fill(name) {
    if (info === null || mounted.has(name)) return;
    mounted.add(name);
    const view = VIEWS[name];
    const panel = document.getElementById(`${name}-view`);
    if (info[view.half] === null) refill(panel, missing(view, info[`${view.half}_missing`]));
    else view.mount(panel, info);
  }

  let shown = "recommendations";
  watchTabs((name) => {
    shown = name;
    fill(name);
  });
  try {
    info = await get(["info"]);
  } catch (error) {
    loading.className = "notice";
    loading.textContent = error.message;
    return;
  }
  loading.remove();
  document.getElementById("served").textContent = servedInWords(info);
  fill(shown);
}

start();
