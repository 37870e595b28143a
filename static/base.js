/** The base address of the service. A proxy may serve it under any path, so it is derived from the page's own address. */

export const BASE = new URL("./", document.baseURI);

/** Return the full address of an API path such as `/api/topics`. */
export function addressOf(path) {
  return new URL(path.replace(/^\//, ""), BASE).href;
}
