/** Shows a fault of the whole system in one line. */

import { setText } from "../dom.js";
import { troubleOf } from "../trouble.js";

export function mountTrouble(truth, status) {
  const line = document.getElementById("trouble");

  function show() {
    const words = troubleOf(truth.link, status.report);
    line.hidden = words === null;
    setText(line, words ?? "");
  }
  truth.onLink(show);
  status.addEventListener("change", show);
}
