/** The views as tabs; the address names the one that is shown, so that "back" goes back. */

/**
 * Watches the tabs and the address.
 *
 * @param {function(string): void} onshow Called with the name of a view whenever it is shown.
 */
export function watchTabs(onshow) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const names = tabs.map((tab) => tab.hash.slice(1));

  function show() {
    const asked = names.indexOf(location.hash.slice(1));
    if (asked < 0 && location.hash !== "") return;
    const here = Math.max(asked, 0);
    tabs.forEach((tab, number) => {
      tab.setAttribute("aria-selected", String(number === here));
      tab.tabIndex = number === here ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = number !== here;
    });
    document.title = `${tabs[here].textContent} · Steer by hand`;
    onshow(names[here]);
  }

  tabs.forEach((tab, number) => {
    tab.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: tabs.length - 1 };
      if (event.key === " ") {
        event.preventDefault();
        tab.click();
      } else if (event.key in moves) {
        event.preventDefault();
        const next = tabs[(moves[event.key] + tabs.length) % tabs.length];
        next.focus();
        next.click();
      }
    });
  });
  window.addEventListener("hashchange", show);
  show();
}
