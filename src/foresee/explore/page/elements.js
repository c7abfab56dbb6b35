// Making elements. Text always goes in as text, so nothing in a run or a prompt can become markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A share as people read it; nothing is called 0 or 100 that is not.
export function percent(share) {
  if (share < 0.0005) return "<0.1%";
  if (share > 0.9995) return ">99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

// New content in the place of old; whoever had the focus keeps it where its successor is there.
export function replace(holder, ...children) {
  const held = holder.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  holder.replaceChildren(...children);
  if (held !== undefined) [...holder.querySelectorAll("[data-key]")].find((each) => each.dataset.key === held)?.focus();
}
