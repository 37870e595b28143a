/** The few DOM habits all panels share: write only what changed, and only as text. */

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a data attribute; null removes it. */
export function setData(element, key, value) {
  if (value === null || value === undefined) delete element.dataset[key];
  else if (element.dataset[key] !== String(value)) element.dataset[key] = value;
}

export function make(tag, { className, text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Run `draw` at most once a frame, however often it is asked for. */
export function perFrame(draw) {
  let queued = false;
  return () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  };
}
