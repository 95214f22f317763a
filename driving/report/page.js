/* One button holds every picture still; who asked for less motion finds them still. */
(() => {
  const roads = [...document.querySelectorAll("svg.road")];
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const set = (paused) => roads.forEach((road) => (paused ? road.pauseAnimations() : road.unpauseAnimations()));
  if (still) set(true);
  for (const button of document.querySelectorAll("button.motion")) {
    button.hidden = false;
    button.setAttribute("aria-pressed", String(still));
    button.addEventListener("click", () => {
      const paused = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(paused));
      set(paused);
    });
  }
})();
