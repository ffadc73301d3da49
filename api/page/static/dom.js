// Creates elements. Text is always set as text, never as HTML.

/**
 * An element. `attributes` with a function as value are listeners (`onclick`), `class`, `data-*` and `aria-*` are as in
 * HTML, `true` is an attribute without a value, and null, undefined and false are left out.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element; as `h`. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children.flat());
  return element;
}

// Paths on a 24 × 24 grid.
const ICONS = {
  dice: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1z M8.5 8.5v.01 M15.5 8.5v.01 M12 12v.01 M8.5 15.5v.01 M15.5 15.5v.01",
  close: "M6 6l12 12 M18 6L6 18",
  star: "M12 4l2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8z",
  download: "M12 4v11 M7 11l5 5 5-5 M5 20h14",
  trash: "M5 7h14 M10 7V4h4v3 M7 7l1 13h8l1-13",
  again: "M20 11a8 8 0 1 0-2 6 M20 5v6h-6",
  copy: "M9 9h10v11H9z M15 9V4H5v11h4",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  alert: "M12 4l9 16H3z M12 10v4 M12 17v.01",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8z M12 2v2 M12 20v2 M2 12h2 M20 12h2 M5 5l1.4 1.4 M17.6 17.6L19 19 M5 19l1.4-1.4 M17.6 6.4L19 5",
  sliders: "M4 7h10 M18 7h2 M4 17h2 M10 17h10 M16 5v4 M8 15v4",
};

/** An icon that is only decoration: its button has a text label. */
export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}
