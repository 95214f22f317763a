/** Says in a live region what changed elsewhere on the page. */

let timer = null;

/** Announces a sentence; the same one twice is read twice. */
export function announce(text) {
  const region = document.getElementById("said");
  clearTimeout(timer);
  region.textContent = "";
  timer = setTimeout(() => {
    region.textContent = text;
  }, 40);
}
