// Numbers with their units, short enough for a table.
import { currentLanguage } from "../words.js";

const NONE = "–";

/** A number; large ones as "12.3K". */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  const shape = value >= 100_000 ? { notation: "compact", maximumFractionDigits: 1 } : { maximumFractionDigits: 0 };
  return new Intl.NumberFormat(currentLanguage(), shape).format(value);
}

/** "0.42 s", "12 s", "3.5 min", "2 h", "4 d". */
export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  for (const [unit, size] of [["day", 86_400 * 2], ["hour", 3600 * 1.5], ["minute", 90]])
    if (value >= size) return measure(value / { day: 86_400, hour: 3600, minute: 60 }[unit], unit);
  return measure(value, "second");
}

function measure(value, unit) {
  const digits = value < 1 ? 2 : value < 10 ? 1 : 0;
  return new Intl.NumberFormat(currentLanguage(), { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits }).format(value);
}

/** "12 MB", "3.4 GB"; units of 1024. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let unit = "kilobyte";
  let left = value / 1024;
  for (const next of ["megabyte", "gigabyte", "terabyte"]) {
    if (left < 1000) break;
    [left, unit] = [left / 1024, next];
  }
  return new Intl.NumberFormat(currentLanguage(), { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: left < 10 ? 1 : 0 }).format(left);
}

/** "14:05" */
export const clock = (date) => new Intl.DateTimeFormat(currentLanguage(), { hour: "2-digit", minute: "2-digit" }).format(date);

/** "Jan 31" */
export const day = (date) => new Intl.DateTimeFormat(currentLanguage(), { month: "short", day: "numeric", timeZone: "UTC" }).format(date);
