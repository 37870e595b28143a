/** Shows JSON for people: short values on one line, coloured by kind, long texts folded. */

import { make } from "../dom.js";

const WIDTH = 76;
const LINES_SHOWN = 300;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\b(?:true|false|null)\b/g;

/** Return the text of a value; a part that fits on one line gets one line. */
export function pretty(value, indent = "") {
  const flat = JSON.stringify(value);
  if (value === null || typeof value !== "object" || flat.length + indent.length <= WIDTH) return spaced(value);
  const deeper = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((each) => deeper + pretty(each, deeper))
    : Object.entries(value).map(([name, each]) => `${deeper}${JSON.stringify(name)}: ${pretty(each, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${parts.join(",\n")}\n${indent}${close}`;
}

function spaced(value) {
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${spaced(each)}`).join(", ")}}`;
}

/** Return an element with the text of a value. */
export function jsonBox(value) {
  const lines = pretty(value).split("\n");
  const code = make("code", {}, ...coloured(lines.slice(0, LINES_SHOWN).join("\n")));
  const box = make("pre", { className: "json", tabindex: 0 }, code);
  if (lines.length <= LINES_SHOWN) return box;
  const more = make("button", { type: "button", className: "rest", text: `Show all ${lines.length} lines` });
  more.addEventListener("click", () => {
    code.textContent = lines.join("\n");
    more.remove();
  });
  box.append("\n", more);
  return box;
}

function coloured(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [whole, string, colon] = match;
    const kind = colon ? "name" : string ? "text" : /^[tfn]/.test(whole) ? "word" : "number";
    const length = colon ? string.length : whole.length;
    parts.push(text.slice(end, match.index), make("span", { className: `j-${kind}`, text: text.slice(match.index, match.index + length) }));
    end = match.index + length;
  }
  return [...parts, text.slice(end)];
}
