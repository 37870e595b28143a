/** Describes a fault of the whole system in one sentence: the first cause that explains everything else. */

import { formatWord } from "./format.js";

const NO_NAME = /host name not found|name resolution|getaddrinfo/i;
const STREAMING = new Set(["live", "playing", "ended", "starting", "connecting"]);

/** Return the server's reason why no source can be reached; null if one can, or none was asked. */
export function unreachable(report) {
  const providers = Array.isArray(report?.providers) ? report.providers : [];
  const asked = providers.filter(({ calls }) => calls > 0);
  const failing = asked.filter(({ last_error, last_error_at, last_success_at }) => last_error && !(last_success_at >= last_error_at));
  if (asked.length < 2 || failing.length < asked.length) return null;
  const causes = failing.map(({ last_error }) => String(last_error));
  if (causes.some((cause) => NO_NAME.test(cause))) return "no host name resolves";
  return new Set(causes).size === 1 ? causes[0] : "all of them fail";
}

/** Return the sentence, or null if the panels show every fault by themselves. */
export function troubleOf(link, report) {
  // After the connection is lost, its last status is outdated; the loss itself is shown beside the connection state.
  if (link.name !== "live") return null;
  const cause = unreachable(report);
  if (cause) {
    return `The server cannot reach any source (${cause}): check its DNS, network and proxy. No keys are needed. “make demo TAPE=FILE” plays a recording.`;
  }
  const feeds = Array.isArray(report?.feeds) ? report.feeds : [];
  const prices = feeds.find(({ name }) => name === "prices");
  const exchange = feeds.find(({ state, sockets }) => Array.isArray(sockets) && !STREAMING.has(state));
  if (!exchange || !exchange.last_error) return null;
  const instead = prices?.source
    ? `prices come from ${prices.source}, less often`
    : "its values are getting old";
  return `${exchange.name} does not stream (${formatWord(exchange.state)}): ${instead}.`;
}
