/** Lets the visitor choose a candle interval: buttons for the common ones, a list for the others. */

import { make, setData } from "../dom.js";
import { INTERVALS } from "../selection.js";

const BUTTONS = ["1m", "5m", "15m", "1h", "4h", "1d"];

export function mountIntervals(selection) {
  const holder = document.getElementById("interval");
  const more = make("select", { "aria-label": "More intervals" }, make("option", { value: "", text: "More", hidden: "" }));
  for (const interval of INTERVALS) {
    if (BUTTONS.includes(interval)) holder.append(make("button", { type: "button", value: interval, text: interval }));
    else more.append(make("option", { value: interval, text: interval }));
  }
  holder.append(more);
  holder.addEventListener("click", ({ target }) => {
    if (target.matches("button")) selection.set({ interval: target.value });
  });
  more.addEventListener("change", () => selection.set({ interval: more.value }));

  function show() {
    const { interval } = selection;
    for (const button of holder.querySelectorAll("button")) button.setAttribute("aria-pressed", button.value === interval);
    more.value = BUTTONS.includes(interval) ? "" : interval;
    setData(holder, "value", interval);
  }
  selection.addEventListener("change", show);
  show();
}
