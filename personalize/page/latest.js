/** One question at a time: a newer one waits a moment, and gives up the older one. */

import { isGivenUp } from "./server.js";

/** Runs only the latest of the pieces of work it is given. */
export class Latest {
  /**
   * @param {Object} options `delay_ms` before work begins; `onbusy(busy)`; `onerror(error)`.
   */
  constructor({ delay_ms = 150, onbusy = () => {}, onerror = () => {} } = {}) {
    this.delay_ms = delay_ms;
    this.onbusy = onbusy;
    this.onerror = onerror;
    this.timer = null;
    this.controller = null;
  }

  /** Begins `work(signal)` after the delay, or at once; what was begun before is given up. */
  run(work, { at_once = false } = {}) {
    this.stop();
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.onbusy(true);
    this.timer = setTimeout(() => this.#begin(work, signal), at_once ? 0 : this.delay_ms);
  }

  /** Gives up what was begun. */
  stop() {
    clearTimeout(this.timer);
    this.controller?.abort();
    this.controller = null;
  }

  async #begin(work, signal) {
    try {
      await work(signal);
    } catch (error) {
      if (isGivenUp(error) || signal.aborted) return;
      this.onerror(error);
    } finally {
      if (!signal.aborted) this.onbusy(false);
    }
  }
}
