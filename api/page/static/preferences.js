// The switches for language and theme in the header.
import { h } from "./dom.js";
import { NAMES, currentLanguage, onLanguage, setLanguage, t } from "./words.js";

const THEMES = ["auto", "light", "dark"];

/** Fill the two <select>s. */
export function initPreferences({ language, theme }) {
  language.append(...Object.entries(NAMES).map(([value, name]) => h("option", { value, lang: value }, name)));
  language.value = currentLanguage();
  language.addEventListener("change", () => setLanguage(language.value));

  const fill = () => {
    theme.replaceChildren(...THEMES.map((value) => h("option", { value }, t(`theme.${value}`))));
    theme.value = window.darkroomTheme.current();
  };
  fill();
  onLanguage(fill);
  theme.addEventListener("change", () => window.darkroomTheme.set(theme.value));
}
