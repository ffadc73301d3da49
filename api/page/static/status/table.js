// A table that scrolls sideways if it is too wide, also with the keyboard.
import { h } from "../dom.js";

/** `columns`: [words, class?]; `rows`: lists of cells, each text or an element. */
export function table(label, columns, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map(([words, name]) => h("th", { scope: "col", class: name }, words)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, place) => h("td", { class: columns[place][1] }, cell))))),
    ),
  );
}

/** A word with a coloured dot. */
export const state = (name, words) => h("span", { class: `dot ${name}` }, words);

/** The text for an empty section. */
export const nothing = (words) => h("p", { class: "nothing" }, words);
