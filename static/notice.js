/** One bar for short-lived notices: the newest one wins, and a `subject` can withdraw its own. */

import { setText } from "./dom.js";

const PASSING_MS = 12_000;

export function mountNotice() {
  const bar = document.getElementById("notice");
  const text = bar.querySelector("span");
  let subject = null;
  let timer = null;

  /** Show a notice; with `forMs` null it stays until it is withdrawn or dismissed. */
  function show(about, words, forMs = PASSING_MS) {
    subject = about;
    clearTimeout(timer);
    setText(text, words);
    bar.hidden = false;
    if (forMs) timer = setTimeout(() => clear(about), forMs);
  }
  function clear(about) {
    if (subject === about) bar.hidden = true;
  }
  bar.querySelector("button").addEventListener("click", () => clear(subject));
  return { show, clear };
}
