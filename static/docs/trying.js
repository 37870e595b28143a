/** "Try it": sends the request from the page and shows the answer as it arrives. */

import { askForToken, authorization } from "../access.js";
import { addressOf } from "../base.js";
import { make, setData } from "../dom.js";
import { jsonBox } from "./json.js";

const HEADERS = ["age", "etag", "retry-after", "ratelimit", "x-request-id"];
const MOST_CHARS = 40_000;

/** Make the button that sends `form`, as Enter does; `request` returns the current `{method, path, query, body, stream}`. */
export function tryIt(form, request) {
  const button = make("button", { type: "submit", form: form.id, className: "try", text: "Try it" });
  const answer = make("div", { className: "answer", role: "status" });
  const element = make("div", { className: "trial" }, button, answer);
  let running = null;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) {
      running.abort();
      return;
    }
    running = new AbortController();
    button.textContent = "Stop";
    setData(button, "state", "running");
    try {
      await show(answer, request(), running.signal);
    } catch (error) {
      if (!running.signal.aborted) answer.replaceChildren(make("p", { className: "error", text: `No answer: ${error.message}` }));
    } finally {
      running = null;
      button.textContent = "Try it";
      setData(button, "state", null);
    }
  });
  return element;
}

async function show(answer, { method, path, query, body, stream }, signal) {
  const target = `${addressOf(path)}${query ? `?${query}` : ""}`;
  const started = performance.now();
  let response;
  let headers;
  do {
    headers = authorization();
    if (body !== null) headers["Content-Type"] = "application/json";
    response = await fetch(target, { method: method.toUpperCase(), headers, body, signal, cache: "no-store" });
  } while (response.status === 401 && (await askForToken(headers)));
  const head = make("div", { className: "answer-head" },
    make("code", { text: `${response.status} ${response.statusText}`.trim(), "data-status": String(response.status)[0] }),
    make("span", { className: "took", text: `${Math.round(performance.now() - started)} ms` }));
  const facts = HEADERS.filter((name) => response.headers.has(name)).map((name) =>
    make("div", {}, make("dt", { text: name }), make("dd", { text: response.headers.get(name) })));
  const place = make("div", {});
  answer.replaceChildren(head, make("dl", { className: "headers" }, ...facts), place);
  if (stream) await showStream(place, response, signal);
  else place.replaceChildren(shown(await response.text(), response.headers.get("Content-Type") ?? ""));
}

function shown(text, type) {
  if (type.startsWith("application/json")) {
    try {
      return jsonBox(JSON.parse(text));
    } catch {
      // Text that isn't JSON is shown as it is.
    }
  }
  const cut = text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)}\n…` : text;
  return make("pre", { className: "json", tabindex: 0 }, make("code", { text: cut }));
}

/** Keep only the newest part of an endless text. */
async function showStream(place, response, signal) {
  const code = make("code", {});
  const box = make("pre", { className: "json", tabindex: 0 }, code);
  place.replaceChildren(box);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  signal.addEventListener("abort", () => reader.cancel().catch(() => {}));
  for (let text = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    text = (text + value).slice(-MOST_CHARS);
    code.textContent = text;
    box.scrollTop = box.scrollHeight;
  }
}
