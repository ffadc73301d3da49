// The page's words, in the reader's language. A language is a file in words/ with the same keys as en.js.
import en from "./words/en.js";
import zh from "./words/zh.js";

const KEY = "darkroom-language";
const LANGUAGES = { en, zh };
export const NAMES = { en: "English", zh: "中文" };

const listeners = new Set();
let language = chosen() ?? (navigator.languages ?? [navigator.language]).map((each) => each.slice(0, 2)).find((each) => each in LANGUAGES) ?? "en";
document.documentElement.lang = language;

function chosen() {
  try {
    const stored = localStorage.getItem(KEY);
    return stored in LANGUAGES ? stored : null;
  } catch {
    return null;
  }
}

export const currentLanguage = () => language;

/** Switch the language for this browser, and call the listeners. */
export function setLanguage(name) {
  language = name;
  document.documentElement.lang = name;
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Storage may be forbidden; the choice then lasts until the page is reloaded.
  }
  translate(document);
  for (const listener of listeners) listener();
}

/** Call `listener` when the language has changed. */
export const onLanguage = (listener) => listeners.add(listener);

/** The words for a key; `{name}` in them is replaced by that value. A value may choose between forms (see plural). */
export function t(key, values = {}) {
  let text = LANGUAGES[language][key] ?? en[key] ?? key;
  if (typeof text === "object") text = text[new Intl.PluralRules(language).select(values.count)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? format(values[name]) : whole));
}

const format = (value) => (typeof value === "number" ? new Intl.NumberFormat(language).format(value) : String(value));

/** Fill in the words of the elements below `root` that name a key: data-t (text), data-t-label, -title, -placeholder. */
export function translate(root) {
  const attributes = { t: null, tLabel: "aria-label", tTitle: "title", tPlaceholder: "placeholder" };
  for (const [name, attribute] of Object.entries(attributes)) {
    const selector = `[data-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}]`;
    for (const element of root.querySelectorAll(selector)) {
      const words = t(element.dataset[name]);
      if (attribute === null) element.textContent = words;
      else element.setAttribute(attribute, words);
    }
  }
}

/** "about 12 s", "about 3 min": rounded, because the number is an estimate. */
export function duration(seconds) {
  if (seconds < 1) return t("duration.now");
  if (seconds < 90) return t("duration.seconds", { count: Math.round(seconds) });
  if (seconds < 5400) return t("duration.minutes", { count: Math.round(seconds / 60) });
  return t("duration.hours", { count: Math.round(seconds / 3600) });
}

/** A size: "630 bytes", "1.2 MB". */
export function bytes(count) {
  const [unit, divisor] = count < 1e3 ? ["byte", 1] : count < 1e6 ? ["kilobyte", 1e3] : ["megabyte", 1e6];
  const shape = { style: "unit", unit, unitDisplay: unit === "byte" ? "long" : "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(language, shape).format(count / divisor);
}

/** A moment, short: the time, with the date unless it was today. */
export function moment(text) {
  const when = new Date(text);
  const isToday = when.toDateString() === new Date().toDateString();
  const shape = isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, shape).format(when);
}
