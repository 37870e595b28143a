/** Where the service stands: a proxy may serve it under any path, and the page's own address says which. */

export const BASE = new URL("./", document.baseURI);

/** The full address of a path of the API, such as `/api/topics`. */
export function addressOf(path) {
  return new URL(path.replace(/^\//, ""), BASE).href;
}
