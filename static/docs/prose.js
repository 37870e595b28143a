/** Text of a contract as elements: paragraphs, with code where it has backticks. Never as HTML. */

import { make } from "../dom.js";

export function inline(text) {
  return text.split(/(`[^`]+`)/).filter(Boolean).map((part) =>
    part.length > 2 && part.startsWith("`") ? make("code", { text: part.slice(1, -1) }) : part);
}

export function paragraphs(text) {
  return text.trim().split(/\n\s*\n/).map((each) => make("p", {}, ...inline(each)));
}
