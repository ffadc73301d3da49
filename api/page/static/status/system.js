// The state of the database, the bucket and the rest of the system.
import { h } from "../dom.js";
import { moment, t } from "../words.js";
import { bytes, count, seconds } from "./quantity.js";
import { state } from "./table.js";

export function system(found, version) {
  const facts = [
    [t("system.couriers"), found.couriers ? state("good", count(found.couriers)) : state("bad", t("system.couriers.none"))],
    [t("system.listener"), found.listener === "ok" ? state("good", t("system.connected")) : state("bad", t("system.disconnected"))],
    [t("system.bucket"), found.bucket === "ok" ? state("good", t("system.reachable")) : state("bad", t("system.unreachable"))],
    [t("system.missing"), found.objects_missing ? state("warn", count(found.objects_missing)) : count(0)],
    [t("system.objects"), count(found.objects)],
    [t("system.tombstones"), found.tombstones >= 1000 ? `${count(1000)}+` : count(found.tombstones)],
    [t("system.database"), `${bytes(found.database_bytes)} · Postgres ${found.postgres_version}`],
    [t("system.predictions"), count(found.predictions)],
    [t("system.retention"), found.retention_s === null ? t("system.for_ever") : seconds(found.retention_s)],
    [t("system.oldest"), found.oldest_data_at === null ? "–" : moment(found.oldest_data_at)],
    [t("system.streams"), count(found.streams_open)],
    [t("system.waits"), count(found.waits_open)],
    [t("system.version"), version],
  ];
  return [h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))];
}
