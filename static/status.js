/** Holds the newest `status` of the server, for all panels that show a part of it or need a reason. */

import { unreachable } from "./trouble.js";

export class Status extends EventTarget {
  report = null;

  constructor(client) {
    super();
    client.on("update", ({ topic, data }) => {
      if (topic !== "status") return;
      this.report = data;
      this.dispatchEvent(new Event("change"));
    });
    client.subscribe(["status"]);
  }

  /** Return why no source can be reached; null if one can. */
  get unreachable() {
    return unreachable(this.report);
  }

  /** Return the server's reason for having no value of this topic or category; null if it gives none. */
  failureOf(category) {
    // A common cause is named once for the whole page.
    if (this.unreachable) return "no source can be reached";
    const readiness = Object.entries(this.report?.readiness ?? {});
    const [, word] = readiness.find(([name]) => name === category || name.startsWith(`${category}.`)) ?? [];
    return typeof word === "string" && word !== "value" ? word : null;
  }
}
