// Whether the service is well: one line if it is, else what is wrong, the worst first.
import { h } from "../dom.js";
import { t } from "../words.js";
import { count, seconds } from "./quantity.js";

const SILENT_AFTER_S = 10;
const LATE_AFTER_S = 120;
const WAITS_IN_VAIN_AFTER_S = 60;
const MANY = 0.1; // of what ended in the last hour

export function health(found) {
  const problems = [...faults(found), ...warnings(found)];
  if (!problems.length) return [h("p", { class: "dot good" }, t("health.good"))];
  return problems.map(([name, words]) => h("p", { class: `dot ${name}` }, words));
}

function* faults({ system, webhooks, models, workers }) {
  if (system.bucket !== "ok") yield ["bad", t("health.bucket")];
  if (system.listener !== "ok") yield ["bad", t("health.listener")];
  if (system.couriers === 0) yield ["bad", t("health.couriers")];
  if (webhooks.overdue_s > LATE_AFTER_S) yield ["bad", t("health.webhooks", { time: seconds(webhooks.overdue_s) })];
  for (const { model, queue } of models) {
    const isServed = workers.some((each) => each.model === model && each.state !== "failed" && each.seen_s < SILENT_AFTER_S);
    if (queue.waiting > 0 && queue.oldest_wait_s > WAITS_IN_VAIN_AFTER_S && !isServed)
      yield ["bad", t("health.unserved", { model, waiting: count(queue.waiting), time: seconds(queue.oldest_wait_s) })];
  }
}

function* warnings({ system, models, workers }) {
  for (const { model, load_failures: failed } of models) if (failed) yield ["warn", t("health.load", { model, reason: failed.reason })];
  for (const each of workers) {
    if (each.state !== "failed" && each.seen_s > SILENT_AFTER_S)
      yield ["warn", t("health.silent", { host: each.hostname, pid: String(each.pid), time: seconds(each.seen_s) })];
  }
  for (const { model, last_hour: ended } of models)
    if (ended.failed > MANY * (ended.succeeded + ended.failed))
      yield ["warn", t("health.failing", { model, failed: count(ended.failed), all: count(ended.succeeded + ended.failed) })];
  if (system.objects_missing > 0) yield ["warn", t("health.missing", { count: system.objects_missing })];
}
