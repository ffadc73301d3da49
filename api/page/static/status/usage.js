// Usage by token in the last thirty days.
import { h } from "../dom.js";
import { t } from "../words.js";
import { chart } from "./chart.js";
import { count, day, seconds } from "./quantity.js";
import { nothing, table } from "./table.js";

const DAY_MS = 86_400_000;

export function usage(found) {
  if (!found.by_token.length) return [nothing(t("usage.none"))];
  const tokens = [...found.by_token].sort((a, b) => b.gpu_seconds - a.gpu_seconds);
  const all = tokens.reduce((sum, each) => sum + each.gpu_seconds, 0) || 1;
  const columns = [
    [t("usage.token")], [t("usage.predictions"), "number"], [t("usage.images"), "number"], [t("usage.steps"), "number"], [t("usage.gpu"), "number"], [t("usage.share")],
  ];
  const rows = tokens.map((each) => [
    each.token ?? t("usage.nobody"),
    count(each.predictions),
    count(each.images),
    count(each.steps),
    seconds(each.gpu_seconds),
    share(each.gpu_seconds / all),
  ]);
  return [days(found), table(t("status.usage"), columns, rows)];
}

function share(part) {
  const words = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: part < 0.1 ? 1 : 0 }).format(part);
  const meter = h("meter", { min: 0, max: 1, value: part, "aria-label": words });
  return h("span", { class: "share" }, meter, words);
}

function days(found) {
  const first = new Date(`${found.from}T00:00:00Z`);
  const by = new Map(found.by_day.map((each) => [each.day, each]));
  const columns = Array.from({ length: 30 }, (_, place) => {
    const at = new Date(first.getTime() + place * DAY_MS);
    const { images = 0, gpu_seconds: gpu = 0 } = by.get(at.toISOString().slice(0, 10)) ?? {};
    return { parts: [[0, images, "accent"]], tip: `${day(at)} · ${t("usage.day", { count: images, gpu: seconds(gpu) })}` };
  });
  const sum = found.by_day.reduce((total, each) => total + each.images, 0);
  const words = t("usage.words", { count: sum });
  return chart({ title: t("chart.title.images"), columns, format: count, ends: [day(first), t("chart.today")], words });
}
