// The search above the gallery: prompt, model, status, time, kept.
import { h } from "./dom.js";
import { onLanguage, t } from "./words.js";

const STATUSES = { succeeded: ["succeeded"], unfinished: ["starting", "processing"], failed: ["failed"], canceled: ["canceled"] };
const DAYS = { day: 1, week: 7, month: 30 };
const TYPING_MS = 250;

/** The search form; `onChange` is called when it asks for something else. */
export class Filters {
  #form;
  #timer = 0;

  constructor(form, onChange) {
    this.#form = form;
    const { q } = form.elements;
    this.#fill();
    onLanguage(() => this.#fill());
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => event.target !== q && onChange());
    q.addEventListener("input", (event) => {
      if (event.isComposing) return; // an unfinished word in a Chinese input method
      clearTimeout(this.#timer);
      this.#timer = setTimeout(onChange, TYPING_MS);
    });
    q.addEventListener("compositionend", () => q.dispatchEvent(new Event("input")));
    form.querySelector("[data-clear]").addEventListener("click", () => {
      form.reset();
      onChange();
    });
  }

  setModels(names) {
    const { model } = this.#form.elements;
    const chosen = model.value;
    model.replaceChildren(model.options[0], ...names.map((name) => h("option", { value: name }, name)));
    model.value = names.includes(chosen) ? chosen : "";
    model.hidden = names.length < 2;
  }

  get areNone() {
    const { q, model, status, time, kept } = this.#form.elements;
    return !(q.value.trim() || model.value || status.value || time.value || kept.checked);
  }

  /** For `GET /v1/predictions`. */
  get parameters() {
    const { q, model, status, time, kept } = this.#form.elements;
    const parameters = new URLSearchParams();
    if (q.value.trim()) parameters.set("q", q.value.trim());
    if (model.value) parameters.set("model", model.value);
    if (status.value) parameters.set("status", STATUSES[status.value].join(","));
    if (time.value) parameters.set("created_after", this.#since().toISOString());
    if (kept.checked) parameters.set("keep", "true");
    return parameters;
  }

  /** Whether a prediction from an event belongs in the list, as far as the page can tell. */
  match(prediction) {
    const { q, model, status, time, kept } = this.#form.elements;
    const prompt = (prediction.input?.prompt ?? "").toLowerCase();
    return (
      q.value.toLowerCase().split(/\s+/).every((word) => prompt.includes(word)) &&
      (!model.value || prediction.model === model.value) &&
      (!status.value || STATUSES[status.value].includes(prediction.status)) &&
      (!time.value || new Date(prediction.created_at) >= this.#since()) &&
      (!kept.checked || prediction.keep)
    );
  }

  #since() {
    return new Date(Date.now() - DAYS[this.#form.elements.time.value] * 86_400_000);
  }

  #fill() {
    const choices = { status: ["", ...Object.keys(STATUSES)], time: ["", ...Object.keys(DAYS)] };
    for (const [name, values] of Object.entries(choices)) {
      const select = this.#form.elements[name];
      const chosen = select.value;
      select.replaceChildren(...values.map((value) => h("option", { value }, t(`filter.${name}.${value || "any"}`))));
      select.value = chosen;
    }
    const { model } = this.#form.elements;
    if (!model.options.length) model.append(h("option", { value: "" }));
    model.options[0].textContent = t("filter.model.any");
  }
}
