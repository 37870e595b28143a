/** Turns text of a contract into elements: paragraphs, and code for backticks. Never into HTML. */

import { make } from "../dom.js";

export function inline(text) {
  return text.split(/(`[^`]+`)/).filter(Boolean).map((part) =>
    part.length > 2 && part.startsWith("`") ? make("code", { text: part.slice(1, -1) }) : part);
}

export function paragraphs(text) {
  return text.trim().split(/\n\s*\n/).map((each) => make("p", {}, ...inline(each)));
}
