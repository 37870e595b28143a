/** A box of text that can be copied. */

import { make } from "../dom.js";

export function copyButton(text) {
  const button = make("button", { type: "button", className: "copy", text: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      // Pages over plain HTTP may not write to the clipboard; the text can still be selected.
      button.textContent = "Select it";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}
