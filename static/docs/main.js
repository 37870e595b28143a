/** Builds the documentation: reads both contracts and lists their contents by group. */

import { make } from "../dom.js";
import { Contract } from "./contract.js";
import { endpointEntry } from "./endpoint.js";
import { messageEntry } from "./message.js";
import { paragraphs } from "./prose.js";

const documents = document.getElementById("documents");
const contents = document.querySelector("#contents ul");
const find = document.getElementById("find");
const nothing = make("p", { className: "empty", role: "status", hidden: "" });

document.getElementById("theme").addEventListener("click", () => globalThis.toggleTheme());

async function main() {
  const [rest, streams] = await Promise.all([Contract.load("/openapi.json"), Contract.load("/asyncapi.json")]);
  const { title, version, description } = rest.json.info;
  const tag = document.getElementById("version");
  tag.textContent = version;
  tag.hidden = false;
  const intro = make("section", { className: "intro" }, make("h2", { text: title }), ...paragraphs(description));
  documents.replaceChildren(intro, nothing, ...restGroups(rest), ...streamGroups(streams));
  documents.removeAttribute("aria-busy");
  find.addEventListener("input", () => show(find.value.trim().toLowerCase()));
  addEventListener("hashchange", openLinked);
  openLinked();
  // An open entry can be linked to.
  documents.addEventListener("toggle", ({ target }) => {
    if (target.open && target.matches(".entry")) history.replaceState(null, "", `#${target.id}`);
  }, { capture: true });
  followReader();
}

function restGroups(rest) {
  const groups = new Map(rest.json.tags.map(({ name, description }) => [name, { description, entries: [] }]));
  for (const [path, operations] of Object.entries(rest.json.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      groups.get(operation.tags[0]).entries.push(endpointEntry(rest, method, path, operation));
    }
  }
  return [...groups].map(([name, { description, entries }]) => group(name, [description], entries));
}

function streamGroups(streams) {
  const { messages } = streams.json.components;
  const { description } = streams.json.info;
  const kinds = { "Values": [], "Control messages": [], "Commands": [] };
  const words = {
    "Values": "One message per event of a topic. On SSE it is a default `message` event.",
    "Control messages": "Messages about the stream. On SSE they are events with these names.",
    "Commands": "Commands that a WebSocket client can send.",
  };
  for (const [id, message] of Object.entries(messages)) {
    const kind = id.startsWith("op.") ? "Commands" : message.name === "update" ? "Values" : "Control messages";
    kinds[kind].push(messageEntry(streams, id, message));
  }
  const codes = closeCodes(streams.json.channels.websocket["x-close-codes"]);
  return [
    group("Streams", description.split("\n\n"), [], "streams"),
    ...Object.entries(kinds).map(([name, entries]) => group(name, [words[name]], entries)),
    group("Close codes", ["Why the server closes a WebSocket. A client that reconnects sends its position."], [], "close-codes", codes),
  ];
}

function closeCodes(codes) {
  const rows = codes.map(({ code, reason, reconnect }) =>
    make("tr", {}, make("th", { scope: "row", text: code }), make("td", { text: reason }), make("td", { text: reconnect ? "reconnect" : "do not reconnect" })));
  return make("table", { className: "codes" }, make("tbody", {}, ...rows));
}

function group(name, description, entries, id = name.toLowerCase().replaceAll(" ", "-"), ...more) {
  const list = entries.map(({ id: target, label }) => make("li", {}, make("a", { href: `#${target}`, text: label })));
  contents.append(make("li", { "data-group": id }, make("a", { href: `#${id}`, text: name }), make("ul", {}, ...list)));
  const head = make("div", { className: "group-head" }, make("h2", { text: name }), ...description.flatMap((each) => paragraphs(each)));
  return make("section", { className: "group", id }, head, ...entries.map(({ element }) => element), ...more);
}

/** Show only the entries that contain these words. */
function show(words) {
  for (const section of documents.querySelectorAll(".group")) {
    const entries = [...section.querySelectorAll(".entry")];
    for (const entry of entries) entry.hidden = !entry.dataset.words.includes(words);
    section.hidden = Boolean(words) && entries.every((entry) => entry.hidden);
    contents.querySelector(`[data-group="${section.id}"]`).hidden = section.hidden;
    for (const entry of entries) contents.querySelector(`a[href="#${CSS.escape(entry.id)}"]`).parentElement.hidden = entry.hidden;
  }
  documents.querySelector(".intro").hidden = Boolean(words);
  const found = documents.querySelector(".group:not([hidden])") !== null;
  nothing.hidden = found;
  nothing.textContent = found ? "" : `Nothing found for “${words}”.`;
}

function openLinked() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.matches("details")) target.open = true;
  target.scrollIntoView();
}

/** Mark the group being read in the table of contents. */
function followReader() {
  const seen = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) continue;
      for (const item of contents.children) item.toggleAttribute("data-current", item.dataset.group === target.id);
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of documents.querySelectorAll(".group")) seen.observe(section);
}

main().catch((error) => {
  documents.replaceChildren(make("p", { className: "empty", text: `The contract could not be loaded: ${error.message}` }));
  documents.removeAttribute("aria-busy");
});
