/** A console for the WebSocket: connect, send commands, and read the messages. */

import { askForToken, authorization, ticket } from "../access.js";
import { addressOf } from "../base.js";
import { UNAUTHORISED } from "../client.js";
import { make, setData } from "../dom.js";

const MOST_LINES = 200;
const COMMANDS = [
  { op: "subscribe", topics: ["price.BTC", "ohlcv.BTC.1m"], req: 1 },
  { op: "unsubscribe", topics: ["price.BTC"], req: 2 },
  { op: "snapshot", topics: ["price.*"], req: 3 },
  { op: "ping", req: 4 },
].map((command) => JSON.stringify(command));

/** Make a console. `form` holds the parameters, and its submit connects; `request` returns the current `{path, query}`. */
export function wsConsole(form, request) {
  const toggle = make("button", { type: "submit", form: form.id, className: "try", text: "Connect" });
  const choice = make("select", { "aria-label": "Commands" }, ...COMMANDS.map((text) => make("option", { value: text, text: JSON.parse(text).op })));
  const command = make("input", { type: "text", spellcheck: "false", "aria-label": "Message to send", autocomplete: "off" });
  const send = make("button", { type: "submit", className: "send", text: "Send", disabled: "" });
  const sender = make("form", { className: "sender", autocomplete: "off" }, choice, command, send);
  const lines = make("ol", { className: "lines", tabindex: 0, role: "log", "aria-label": "Messages" });
  let socket = null;

  command.value = COMMANDS[0];
  choice.addEventListener("change", () => { command.value = choice.value; });

  function show(mark, text) {
    const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    const line = make("li", {}, make("b", { text: `${mark} ` }), text);
    setData(line, "mark", mark);
    lines.append(line);
    while (lines.childElementCount > MOST_LINES) lines.firstChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  function showState(state) {
    toggle.textContent = state === null ? "Connect" : "Disconnect";
    setData(toggle, "state", state === null ? null : "running");
    send.disabled = state !== "open";
  }

  async function connect() {
    const mine = {};
    socket = mine;
    showState("connecting");
    try {
      const { path, query } = request();
      const url = new URL(addressOf(path));
      url.search = query;
      url.protocol = url.protocol.replace("http", "ws");
      const admission = await ticket();
      if (socket !== mine) return;
      if (admission) url.searchParams.set("ticket", admission);
      socket = open(url);
    } catch (error) {
      if (socket === mine) end(`no connection: ${error.message}`);
    }
  }

  function open(url) {
    const opened = new WebSocket(url);
    const ours = (act) => (event) => opened === socket && act(event);
    opened.onopen = ours(() => {
      show("•", "connected");
      showState("open");
    });
    opened.onmessage = ours(({ data }) => show("←", data));
    opened.onclose = ours(async ({ code, reason }) => {
      end(`closed: ${[code, reason].filter(Boolean).join(" ")}`);
      if (code === UNAUTHORISED && (await askForToken(authorization()))) connect();
    });
    return opened;
  }

  function end(words) {
    socket?.close?.();
    socket = null;
    show("•", words);
    showState(null);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket) end("closed by you");
    else connect();
  });
  sender.addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket?.readyState !== WebSocket.OPEN) return;
    socket.send(command.value);
    show("→", command.value);
  });
  return make("div", { className: "trial console" }, toggle, sender, lines);
}
