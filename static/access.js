/** The token of a server that asks for one. It lives in this page's memory only: a reload asks again. */

import { addressOf } from "./base.js";

let token = null;
let asking = null;

/** The headers of a request as its caller; nothing while no token was needed. */
export function authorization() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Ask for a token, once for all who need one. `refused` are the headers that were not taken. */
export function askForToken(refused = {}) {
  const dialog = document.getElementById("token");
  if (token && refused.Authorization !== authorization().Authorization) return Promise.resolve(); // there is a newer one
  if (refused.Authorization) document.getElementById("token-refused").hidden = false;
  token = null;
  if (!dialog.open) dialog.showModal();
  asking ??= new Promise((resolve) => {
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = dialog.querySelector("input");
      token = input.value.trim();
      input.value = "";
      dialog.close();
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

/** Good for one WebSocket or EventSource, which cannot set headers; null while no token is needed. */
export function ticket() {
  return token ? fetchTicket() : null;
}

async function fetchTicket() {
  const headers = authorization();
  const answer = await fetch(addressOf("/api/ticket"), { method: "POST", headers });
  if (answer.status === 401) {
    await askForToken(headers);
    return fetchTicket();
  }
  if (!answer.ok) throw new Error(`no ticket: ${answer.status} ${answer.statusText}`.trim());
  return (await answer.json()).data.ticket;
}
