/** The token of a server that asks for one. It lives in this page's memory only: a reload asks again. */

import { addressOf } from "./base.js";

let token = null;
let asking = null;
let needed = false;

/** The headers of a request as its caller; nothing while no token was needed. */
export function authorization() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Whether this server has asked for a token; `tokenneeded` is dispatched on the window when it first does. */
export function tokenNeeded() {
  return needed;
}

/** Ask for a token, once for all who need one; false if none is given. `refused` are the headers that were not taken. */
export function askForToken(refused = {}) {
  const dialog = document.getElementById("token");
  if (token && refused.Authorization !== authorization().Authorization) return Promise.resolve(true); // there is a newer one
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
    // Escape closes it, too, without an answer.
    dialog.onclose = () => {
      input.value = "";
      resolve(token !== null);
    };
  });
}

/** Good for one WebSocket or EventSource, which cannot set headers; null while no token is needed. */
export function ticket() {
  return token ? fetchTicket() : null;
}

async function fetchTicket() {
  const headers = authorization();
  const answer = await fetch(addressOf("/api/ticket"), { method: "POST", headers });
  if (answer.status === 401) {
    if (!(await askForToken(headers))) throw new Error("the server wants a token");
    return fetchTicket();
  }
  if (!answer.ok) throw new Error(`no ticket: ${answer.status} ${answer.statusText}`.trim());
  return (await answer.json()).data.ticket;
}
