/** Shows one endpoint: its parameters, its answers, and a form to try it. */

import { tokenNeeded } from "../access.js";
import { addressOf } from "../base.js";
import { make } from "../dom.js";
import { copyButton } from "./copy.js";
import { inline, paragraphs } from "./prose.js";
import { fieldsOf, inner } from "./schema.js";
import { tryIt } from "./trying.js";
import { wsConsole } from "./console.js";

const STREAMS = { "/ws": "ws", "/sse": "sse" };
const GOOD = /^[12]/;

export function endpointEntry(contract, method, path, operation) {
  const id = operation.operationId;
  const head = make("summary", {},
    make("span", { className: "method", text: method, "data-method": method }),
    make("code", { className: "path", text: path }),
    make("span", { className: "what" }, ...inline(operation.summary)));
  const names = (operation.parameters ?? []).map((each) => each.name).join(" ");
  const words = `${method} ${path} ${operation.summary} ${names}`.toLowerCase();
  const element = make("details", { className: "entry", id, "data-words": words, "data-path": path }, head);
  element.addEventListener("toggle", () => element.append(body(contract, method, path, operation)), { once: true });
  return { id, label: path.replace(/^\/api\/new-sources\//, "…/"), element };
}

function body(contract, method, path, operation) {
  const inputs = new Map();
  const left = make("form", { id: `try-${operation.operationId}`, className: "left", autocomplete: "off" });
  if (operation.description) left.append(...paragraphs(operation.description));
  const parameters = (operation.parameters ?? []).map((each) => contract.follow(each));
  if (parameters.length) {
    const rows = parameters.map((each) => parameterRow(contract, `${operation.operationId}-${each.name}`, each, inputs));
    left.append(make("h3", { text: "Parameters" }), make("div", { className: "parameters" }, ...rows));
  }
  const wanted = operation.requestBody?.content["application/json"];
  let text = null;
  if (wanted) {
    text = make("textarea", { rows: 7, spellcheck: "false", "aria-label": "Body" });
    text.value = JSON.stringify(wanted.example, null, 2);
    left.append(make("h3", { text: "Body" }), text, fieldsOf(contract, wanted.schema));
  }

  const open = operation.security?.length === 0;
  const request = () => ({ open, method, path, query: queryOf(inputs), body: text?.value ?? null, stream: STREAMS[path] });
  const command = make("code", {});
  const box = make("div", { className: "box" },
    make("div", { className: "box-head" }, make("h3", { text: "Request" }), copyButton(() => command.textContent)),
    make("pre", { className: "command", tabindex: 0 }, command));
  const write = () => { command.textContent = commandOf(request()); };
  left.addEventListener("input", write);
  addEventListener("tokenneeded", write);
  write();
  const right = make("div", { className: "right" }, box);
  right.append(STREAMS[path] === "ws" ? wsConsole(left, request) : tryIt(left, request));
  const below = make("div", { className: "below" }, make("h3", { text: "Answers" }), answers(contract, operation.responses));
  return make("div", { className: "entry-body" }, left, right, below);
}

function parameterRow(contract, id, parameter, inputs) {
  const { name, schema, description, required, example } = parameter;
  const row = make("div", { className: "parameter" });
  const label = make(parameter.in === "query" ? "label" : "span", { className: "name" }, make("code", { text: name }));
  if (parameter.in === "query") label.setAttribute("for", id);
  if (required) label.append(make("span", { className: "needed", text: "required" }));
  const about = make("div", { className: "about" }, make("span", { className: "words" }, ...inline(description)));
  const facts = [schema.enum ? "" : contract.type(schema), contract.bounds(schema), parameter.in === "header" ? "header" : ""];
  if (facts.some(Boolean)) about.append(make("span", { className: "type", text: facts.filter(Boolean).join(", ") }));
  row.append(label);
  if (parameter.in === "query") {
    const input = control(id, schema, required);
    const asText = Array.isArray(example) ? example.join(",") : String(example ?? "");
    if (schema.default === undefined) input.value = asText;
    inputs.set(name, input);
    row.append(input);
  }
  row.append(about);
  return row;
}

function control(id, schema, required) {
  if (schema.enum) {
    const none = make("option", { value: "", text: schema.default === undefined ? "–" : `${schema.default} (default)` });
    return make("select", { id }, none, ...schema.enum.map((word) => make("option", { value: word, text: word })));
  }
  const input = make("input", { id, type: "text", spellcheck: "false", placeholder: schema.default ?? "" });
  if (schema.type === "integer" || schema.type === "number") input.inputMode = "decimal";
  if (required) input.setAttribute("aria-required", "true");
  return input;
}

function queryOf(inputs) {
  const query = new URLSearchParams();
  for (const [name, input] of inputs) if (input.value.trim()) query.set(name, input.value.trim());
  return query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
}

function commandOf({ open, method, path, query, body, stream }) {
  // A shell variable, because a copied command may end up where others read it.
  const token = tokenNeeded() && !open ? ['-H "Authorization: Bearer $TOKEN"'] : [];
  const target = `${addressOf(path)}${query ? `?${query}` : ""}`;
  if (stream === "ws") return ["websocat", ...token, quoted(target.replace(/^http/, "ws"))].join(" ");
  const how = stream === "sse" ? "-N " : method === "post" ? "-X POST " : "";
  const lines = [`curl ${how}${quoted(target)}`, ...token];
  if (body !== null) lines.push("-H 'Content-Type: application/json'", `-d ${quoted(oneLine(body))}`);
  return lines.join(" \\\n  ");
}

function oneLine(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text; // text that isn't JSON is sent as it is
  }
}

/** Quote a text for a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function answers(contract, responses) {
  let refusalShown = false; // all refusals have the same shape
  const rows = Object.entries(responses).map(([status, response]) => {
    const { description, content = {}, headers = {} } = contract.follow(response);
    const about = make("dd", {}, make("span", { className: "words" }, ...inline(description)));
    const { schema } = content["application/json"] ?? {};
    const fields = schema && fieldsOf(contract, schema.allOf?.[0] ?? schema);
    if (fields && (GOOD.test(status) || !refusalShown)) about.append(inner("Fields", () => fields));
    refusalShown ||= !GOOD.test(status) && Boolean(fields);
    const types = Object.keys(content).filter((type) => type !== "application/json");
    const names = Object.keys(headers).filter((name) => name !== "X-Request-Id");
    for (const facts of [types, names]) if (facts.length) about.append(make("span", { className: "type", text: facts.join(", ") }));
    return make("div", {}, make("dt", {}, make("code", { text: status, "data-status": status[0] })), about);
  });
  return make("dl", { className: "fields answers" }, ...rows);
}
