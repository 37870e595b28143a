/** Shows one message of the streams: its fields and an example. */

import { make } from "../dom.js";
import { copyButton } from "./copy.js";
import { jsonBox, pretty } from "./json.js";
import { inline } from "./prose.js";
import { fieldsOf } from "./schema.js";

export function messageEntry(contract, id, message) {
  const target = `message-${id}`;
  const label = id.startsWith("op.") ? message.payload.properties.op.const : message.title.replace(/^update of /, "");
  const head = make("summary", {}, make("code", { className: "path", text: label }), make("span", { className: "what" }, ...inline(message.summary)));
  const element = make("details", { className: "entry", id: target, "data-words": `${label} ${message.name} ${message.summary}`.toLowerCase() }, head);
  element.addEventListener("toggle", () => element.append(body(contract, message)), { once: true });
  return { id: target, label, element };
}

function body(contract, message) {
  const left = make("div", { className: "left" }, make("h3", { text: "Fields" }), fieldsOf(contract, message.payload));
  const right = make("div", { className: "right" });
  for (const { payload } of message.examples ?? []) {
    const head = make("div", { className: "box-head" }, make("h3", { text: "Example" }), copyButton(() => pretty(payload)));
    right.append(make("div", { className: "box" }, head, jsonBox(payload)));
  }
  return make("div", { className: "entry-body" }, left, right);
}
