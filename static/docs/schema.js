/** Shows a schema as a table of fields; inner fields can be opened. */

import { make } from "../dom.js";
import { inline } from "./prose.js";

const MANY = 8;

/** Return the fields of a schema, or null if it has none. */
export function fieldsOf(contract, schema) {
  const found = contract.follow(schema);
  if (found.properties) return table(contract, found);
  if (found.type === "array") return fieldsOf(contract, found.items);
  const either = found.oneOf ?? found.anyOf;
  if (either) {
    const parts = either.map((each) => [each, fieldsOf(contract, each)]).filter(([, fields]) => fields);
    if (parts.length === 1) return parts[0][1];
    if (parts.length) return make("div", { className: "either" }, ...parts.map(([each, fields]) => inner(contract.type(each), () => fields)));
  }
  return found.additionalProperties?.type === "object" ? fieldsOf(contract, found.additionalProperties) : null;
}

function table(contract, schema) {
  const needed = new Set(schema.required);
  const rows = Object.entries(schema.properties).map(([name, field]) => row(contract, name, field, needed.has(name)));
  return make("dl", { className: "fields" }, ...rows);
}

function row(contract, name, field, needed) {
  const found = contract.follow(field);
  const about = make("dd", {}, make("span", { className: "type", text: contract.type(field) }));
  const bounds = contract.bounds(found);
  if (bounds) about.append(make("span", { className: "bounds", text: bounds }));
  if (!needed) about.append(make("span", { className: "bounds", text: "optional" }));
  const description = field.description ?? found.description;
  if (description) about.append(make("span", { className: "words" }, ...inline(description)));
  const words = found.enum ?? found.items?.enum;
  if (words) about.append(choices(words));
  if (hasFields(contract, field)) about.append(inner("Fields", () => fieldsOf(contract, field)));
  return make("div", {}, make("dt", {}, make("code", { text: name })), about);
}

function hasFields(contract, schema) {
  const found = contract.follow(schema);
  if (found.properties) return true;
  if (found.type === "array") return hasFields(contract, found.items);
  if (found.additionalProperties?.type === "object") return hasFields(contract, found.additionalProperties);
  return (found.oneOf ?? found.anyOf ?? []).some((each) => hasFields(contract, each));
}

function choices(words) {
  const codes = words.filter((word) => word !== null).map((word) => make("code", { text: word }));
  const list = make("span", { className: "choices" }, ...codes);
  return codes.length > MANY * 2 ? inner(`${codes.length} words`, () => list) : list;
}

/** Make a part that is filled when it is opened. */
export function inner(label, content) {
  const details = make("details", { className: "inner" }, make("summary", { text: label }));
  details.addEventListener("toggle", () => details.append(content()), { once: true });
  return details;
}
