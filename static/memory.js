/** What this browser remembers of a visitor's choices. Storage may be forbidden; a choice then lasts for the visit. */

export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // As above.
  }
}

/** What was remembered if `isValid` takes it, else null. */
export function recall(name, isValid) {
  try {
    const value = JSON.parse(localStorage.getItem(name));
    return isValid(value) ? value : null;
  } catch {
    return null;
  }
}
