/** A place for a sentence that something could not be done. */

import { element } from "./element.js";

/** An element with `say(sentence)` and `clear()`; empty it takes no room. */
export function notice() {
  const place = element("p", { class: "notice", role: "alert", hidden: true });
  return {
    place,
    say(sentence) {
      place.hidden = false;
      place.textContent = sentence;
    },
    clear() {
      place.hidden = true;
      place.textContent = "";
    },
  };
}
