// One card a model: what waits, what ended, and how long it took.
import { h } from "../dom.js";
import { t } from "../words.js";
import { chart, moments } from "./chart.js";
import { clock, count, seconds } from "./quantity.js";
import { nothing } from "./table.js";

export const models = (all, period) => all.map((each) => card(each, period));

function card(found, period) {
  const summary = found[`last_${period}`];
  const series = found[period];
  return h(
    "article",
    { class: "panel model" },
    h("h3", {}, found.model, found.in_catalog ? null : h("small", {}, t("model.former"))),
    h(
      "dl",
      { class: "figures" },
      figure(t("model.waiting"), count(found.queue.waiting), found.queue.waiting ? t("model.oldest", { time: seconds(found.queue.oldest_wait_s) }) : ""),
      figure(t("model.drawing"), count(found.queue.processing)),
      figure(t("model.images"), count(summary.images), t("model.ended", { count: summary.succeeded })),
      figure(t("model.failed"), count(summary.failed), summary.canceled ? t("model.canceled", { count: summary.canceled }) : "", summary.failed ? "bad" : ""),
      bounds(found.workers),
      figure(t("model.load"), seconds(summary.load_s.p50), summary.load_s.p95 === null ? "" : t("model.p95", { time: seconds(summary.load_s.p95) })),
    ),
    isQuiet(series)
      ? nothing(t(`model.quiet.${period}`))
      : h(
          "div",
          { class: "charts" },
          ends(found.model, series),
          times(found.model, series, summary, "queue"),
          times(found.model, series, summary, "drawing"),
        ),
  );
}

/** The least and the largest number of workers, if they are set. */
function bounds({ at_least, at_most, warm_until }) {
  if (!at_least && at_most === null) return null;
  const more = [
    at_most === null ? "" : t("model.at_most", { count: at_most }),
    warm_until === null ? "" : t("model.warm_until", { time: clock(new Date(warm_until)) }),
  ];
  return figure(t("model.kept_ready"), count(at_least), more.filter(Boolean).join(", "));
}

export function figure(name, value, more = "", state = "") {
  return h("div", {}, h("dt", {}, name), h("dd", { class: state }, value, more ? h("small", {}, more) : null));
}

/** The words below a chart over time. */
export const endsOf = (at) => [clock(at[0]), t("chart.now")];

function ends(model, series) {
  const at = moments(series, series.succeeded.length);
  const columns = at.map((moment, place) => {
    const [succeeded, failed, canceled] = ["succeeded", "failed", "canceled"].map((name) => series[name][place]);
    return {
      parts: [
        [0, succeeded, "good"],
        [succeeded, succeeded + failed, "bad"],
        [succeeded + failed, succeeded + failed + canceled, "soft"],
      ],
      tip: `${clock(moment)} · ${t("chart.ended", { succeeded, failed, canceled })}`,
    };
  });
  const words = t("chart.ends", { model, ...totals(series) });
  const legend = [["good", t("chart.succeeded")], ["bad", t("chart.failed")], ["soft", t("chart.canceled")]];
  return chart({ title: t("chart.title.ended"), columns, format: count, ends: endsOf(at), words, legend });
}

const isQuiet = (series) => Object.values(totals(series)).every((total) => total === 0);

const totals = (series) => Object.fromEntries(["succeeded", "failed", "canceled"].map((name) => [name, series[name].reduce((a, b) => a + b, 0)]));

function times(model, series, summary, name) {
  const at = moments(series, series.succeeded.length);
  const columns = at.map((moment, place) => {
    const [p50, p95] = ["p50", "p95"].map((share) => series[`${name}_${share}_s`][place]);
    return {
      parts: p95 === null ? [] : [[0, p95, "light"], [0, p50, "accent"]],
      tip: p95 === null ? clock(moment) : `${clock(moment)} · ${t("chart.half", { time: seconds(p50) })} · ${t("chart.most", { time: seconds(p95) })}`,
    };
  });
  const { p50, p95 } = summary[`${name}_s`];
  const title = t(`chart.title.${name}`);
  const legend = [["accent", t("chart.half", { time: seconds(p50) })], ["light", t("chart.most", { time: seconds(p95) })]];
  const words = `${model}: ${title}, ${legend[0][1]}, ${legend[1][1]}`;
  return chart({ title, columns, format: seconds, ends: endsOf(at), words, legend });
}
