// Bars over time, as SVG. Each column has a tooltip; the whole has a sentence for those who can't see it.
import { h, svg } from "../dom.js";

const HEIGHT = 100;

/**
 * A figure. `columns`: for each point in time { parts: [[from, to, class], …], tip }, in the same unit as `format` gets.
 * `ends`: the words below its left and right end. `words`: what it says, in one sentence.
 */
export function chart({ title, columns, format, ends, words, legend = [] }) {
  const highest = Math.max(0, ...columns.flatMap(({ parts }) => parts.map(([, to]) => to)));
  const scale = highest > 0 ? HEIGHT / highest : 0;
  const drawing = svg("svg", { viewBox: `0 0 ${columns.length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words });
  columns.forEach(({ parts, tip }, place) => {
    const column = svg("g", {});
    for (const [from, to, name] of parts)
      if (to > from)
        column.append(svg("rect", { x: place + 0.12, width: 0.76, y: HEIGHT - to * scale, height: Math.max((to - from) * scale, 1.2), class: name }));
    column.append(svg("rect", { x: place, width: 1, y: 0, height: HEIGHT, class: "column" }, svg("title", {}, tip)));
    drawing.append(column);
  });
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h("span", {}, title), h("span", { class: "highest" }, highest > 0 ? format(highest) : "")),
    drawing,
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, ends[0]), h("span", {}, ends[1])),
    legend.length ? h("ul", { class: "legend" }, legend.map(([name, text]) => h("li", {}, h("i", { class: name }), text))) : null,
  );
}

/** The moment at which each point of a series begins. */
export const moments = ({ starts_at, step_s }, points) =>
  Array.from({ length: points }, (_, place) => new Date(new Date(starts_at).getTime() + place * step_s * 1000));
