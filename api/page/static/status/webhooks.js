// Webhooks: how many arrive, and those that don't, each with a button that sends it again.
import { h } from "../dom.js";
import { moment, t } from "../words.js";
import { chart, moments } from "./chart.js";
import { endsOf, figure } from "./models.js";
import { clock, count, seconds } from "./quantity.js";
import { nothing, state, table } from "./table.js";

export function webhooks(found, period, replay) {
  const summary = found[`last_${period}`];
  return [
    h(
      "div",
      { class: "beside-chart" },
      h(
        "dl",
        { class: "figures" },
        figure(t("webhooks.delivered"), count(summary.delivered)),
        figure(t("webhooks.retried"), count(summary.retried)),
        figure(t("webhooks.failed"), count(summary.failed), "", summary.failed ? "bad" : ""),
        figure(t("webhooks.pending"), count(found.pending), found.overdue_s > 1 ? t("webhooks.late", { time: seconds(found.overdue_s) }) : ""),
      ),
      summary.delivered + summary.retried + summary.failed > 0 ? attempts(found[period]) : nothing(t(`webhooks.quiet.${period}`)),
    ),
    codes(summary.codes),
    found.failing.length ? failing(found.failing, replay) : nothing(t("webhooks.none")),
  ];
}

function attempts(series) {
  const at = moments(series, series.delivered.length);
  const columns = at.map((when, place) => {
    const [delivered, retried, failed] = ["delivered", "retried", "failed"].map((name) => series[name][place]);
    return {
      parts: [
        [0, delivered, "good"],
        [delivered, delivered + retried, "warn"],
        [delivered + retried, delivered + retried + failed, "bad"],
      ],
      tip: `${clock(when)} · ${t("chart.attempts", { delivered, retried, failed })}`,
    };
  });
  const sum = (name) => series[name].reduce((a, b) => a + b, 0);
  const words = t("chart.attempts", { delivered: sum("delivered"), retried: sum("retried"), failed: sum("failed") });
  const legend = [["good", t("webhooks.delivered")], ["warn", t("webhooks.retried")], ["bad", t("webhooks.failed")]];
  return chart({ title: t("chart.title.attempts"), columns, format: count, ends: endsOf(at), words, legend });
}

function codes(all) {
  const found = Object.entries(all);
  if (!found.length) return null;
  const name = (code) => (code === "none" ? t("webhooks.unanswered") : code);
  return h("p", { class: "codes" }, t("webhooks.codes"), found.map(([code, n]) => h("span", {}, `${name(code)} × ${count(n)}`)));
}

function failing(all, replay) {
  const columns = [
    [t("webhooks.state")], [t("webhooks.url"), "wide"], [t("webhooks.error"), "wide"], [t("webhooks.attempts"), "number"],
    [t("webhooks.token")], [t("webhooks.last")], [t("failures.id")], [""],
  ];
  const rows = all.map((each) => [
    each.status === "failed" ? state("bad", t("webhooks.state.failed")) : state("warn", t("webhooks.state.pending")),
    each.url,
    each.last_status === null ? each.last_error : `${each.last_status} · ${each.last_error}`,
    count(each.attempts),
    each.token ?? "–",
    moment(each.last_attempt_at),
    h("code", {}, each.prediction_id),
    h("button", { type: "button", "data-key": each.id, "aria-label": t("webhooks.replay.one", { id: each.id }), onclick: () => replay(each.id) }, t("webhooks.replay")),
  ]);
  return table(t("webhooks.failing"), columns, rows);
}
