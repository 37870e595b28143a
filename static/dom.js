/** DOM functions that all panels share: they write only what changed, and only as text. */

const SVG = "http://www.w3.org/2000/svg";

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a data attribute; null removes it. */
export function setData(element, key, value) {
  if (value === null || value === undefined) delete element.dataset[key];
  else if (element.dataset[key] !== String(value)) element.dataset[key] = value;
}

/** Set any attribute; null removes it. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function make(tag, { className, text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Like `make`, for SVG elements, which have a namespace of their own. */
export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Make `parent` hold exactly these children in this order, moving only those out of place. */
export function place(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const keep = new Set(children);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  // A moved element loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Return a function that runs `act` at most once a frame, however often it is called. */
export function perFrame(act) {
  let queued = false;
  return () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      act();
    });
  };
}

const FLASH_STEP_MS = 300;
const flashing = { young: new Set(), old: new Set(), timer: null };

/** Mark a change up or down for one or two steps. Not animated, because an animation paints every frame. */
export function flash(element, up) {
  setData(element, "flash", up ? "up" : "down");
  flashing.old.delete(element);
  flashing.young.add(element);
  flashing.timer ??= setInterval(fadeFlashes, FLASH_STEP_MS);
}

function fadeFlashes() {
  for (const element of flashing.old) setData(element, "flash", null);
  [flashing.old, flashing.young] = [flashing.young, new Set()];
  if (flashing.old.size) return;
  clearInterval(flashing.timer);
  flashing.timer = null;
}
