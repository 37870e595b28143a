/** Remembers a visitor's choices in this browser. If storage is forbidden, a choice lasts for the visit. */

export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // As above.
  }
}

/** Return the remembered value if `isValid` accepts it, else null. */
export function recall(name, isValid) {
  try {
    const value = JSON.parse(localStorage.getItem(name));
    return isValid(value) ? value : null;
  } catch {
    return null;
  }
}
