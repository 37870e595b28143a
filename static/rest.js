/** Asks the REST API: returns the envelope of a success, or throws an error with the cause. */

import { askForToken, authorization } from "./access.js";
import { addressOf } from "./base.js";

export class RestError extends Error {
  constructor(message, { status = 0, code = null, retryAfterMs = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfterMs });
  }
}

export async function getJson(path, { signal, timeoutMs = 20_000 } = {}) {
  const deadline = AbortSignal.timeout(timeoutMs);
  const headers = authorization();
  let response;
  try {
    response = await fetch(addressOf(path), { headers, signal: signal ? AbortSignal.any([signal, deadline]) : deadline });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RestError(deadline.aborted ? "The server took too long to answer." : "The server cannot be reached.");
  }
  if (response.status === 401) {
    if (!(await askForToken(headers))) throw new RestError("The server requires a token.", { status: 401 });
    return getJson(path, { signal, timeoutMs });
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body?.success) return body;
  const retryAfterS = Number(response.headers.get("Retry-After"));
  throw new RestError(body?.error?.message ?? `The server answered ${response.status} ${response.statusText}`.trim(), {
    status: response.status,
    code: body?.error?.code,
    retryAfterMs: retryAfterS > 0 ? retryAfterS * 1000 : null,
  });
}
