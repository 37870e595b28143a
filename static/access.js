/** Holds the token of a server that requires one, in this page's memory only: a reload asks for it again. */

import { addressOf } from "./base.js";

let token = null;
let asking = null;
let needed = false;

/** Return the headers that authorise a request; none while no token is needed. */
export function authorization() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Return whether this server requires a token; `tokenneeded` is dispatched on the window when it first does. */
export function tokenNeeded() {
  return needed;
}

/** Ask for a token once for all callers; false if none is given. `refused` are the headers that the server refused. */
export function askForToken(refused = {}) {
  const dialog = document.getElementById("token");
  if (token && refused.Authorization !== authorization().Authorization) return Promise.resolve(true); // a newer token exists
  if (refused.Authorization) document.getElementById("token-refused").hidden = false;
  token = null;
  if (!needed) {
    needed = true;
    dispatchEvent(new Event("tokenneeded"));
  }
  if (!dialog.open) dialog.showModal();
  asking ??= answerOf(dialog).finally(() => { asking = null; });
  return asking;
}

function answerOf(dialog) {
  const form = dialog.querySelector("form");
  const input = dialog.querySelector("input");
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      token = input.value.trim();
      dialog.close();
    };
    // Escape closes the dialog too, without an answer.
    dialog.onclose = () => {
      input.value = "";
      resolve(token !== null);
    };
  });
}

/** Return a ticket for one WebSocket or EventSource, which cannot set headers; null while no token is needed. */
export function ticket() {
  return token ? fetchTicket() : null;
}

async function fetchTicket() {
  const headers = authorization();
  const answer = await fetch(addressOf("/api/ticket"), { method: "POST", headers });
  if (answer.status === 401) {
    if (!(await askForToken(headers))) throw new Error("the server requires a token");
    return fetchTicket();
  }
  if (!answer.ok) throw new Error(`no ticket: ${answer.status} ${answer.statusText}`.trim());
  return (await answer.json()).data.ticket;
}
