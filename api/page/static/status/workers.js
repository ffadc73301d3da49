// The workers, and their failures.
import { h } from "../dom.js";
import { moment, t } from "../words.js";
import { bytes, count, seconds } from "./quantity.js";
import { nothing, state, table } from "./table.js";

const COLOURS = { idle: "good", drawing: "good", loading: "warn", draining: "soft", standby: "soft", failed: "bad" };
const SILENT_AFTER_S = 10;

export function workers(all) {
  if (!all.length) return [nothing(t("workers.none"))];
  const columns = [
    [t("workers.state")], [t("workers.model")], [t("workers.host")], [t("workers.device")], [t("workers.images"), "number"],
    [t("workers.memory"), "number"], [t("workers.free"), "number"], [t("workers.since")], [t("workers.seen"), "number"],
  ];
  const rows = all.map((each) => [
    [state(COLOURS[each.state] ?? "soft", t(`worker.${each.state}`)), each.error ? h("p", { class: "error" }, each.error) : null].filter(Boolean),
    each.model,
    `${each.hostname} · ${each.pid}`,
    each.device ?? "–",
    count(each.images),
    bytes(each.memory_bytes),
    bytes(each.device_free_bytes),
    moment(each.started_at),
    // Rounded while all is well; else the table would be rendered again every three seconds.
    each.seen_s < SILENT_AFTER_S ? t("workers.now") : h("span", { class: "bad" }, seconds(each.seen_s)),
  ]);
  return [table(t("status.workers"), columns, rows.map((cells) => cells.map((cell) => (Array.isArray(cell) ? h("div", {}, cell) : cell))))];
}

export function failures(all) {
  if (!all.length) return [nothing(t("failures.none"))];
  const columns = [[t("failures.count"), "number"], [t("failures.reason"), "wide"], [t("workers.model")], [t("failures.last")], [t("failures.id")]];
  return [
    table(
      t("status.failures"),
      columns,
      all.map((each) => [count(each.count), each.reason, each.model, moment(each.last_at), h("code", {}, each.prediction_id)]),
    ),
  ];
}
