// The form: a prompt, and the other inputs of the chosen model.
import { h } from "./dom.js";
import { arePictures, fieldOf, seedField, sizeField } from "./fields.js";
import { lorasIn } from "./lora_field.js";
import { isPictureData, pictureIn } from "./picture_field.js";
import { inputsOf } from "./schema.js";
import { withPictures } from "./sent_picture.js";
import { onLanguage, t } from "./words.js";

const KEY = "darkroom-form"; // what was typed, for a reload of this tab
// These are elsewhere in the form, or have no use on a page.
const NOT_ASKED = ["prompt", "width", "height", "size", "aspect_ratio", "seed", "cache", "reuse", "previews", "priority", "lora_weights", "lora_scale"];
// Sent even if they equal the model's defaults, so that the prediction shows them and can be repeated after the defaults
// have changed.
const ALWAYS_SAID = ["width", "height", "num_inference_steps", "guidance_scale"];
const AT_ONCE = ["num_outputs"]; // shown without opening "more"

/** The form of the page; `onSubmit({ model, input })` is called with what is asked for. */
export class Form {
  #form;
  #models = [];
  #fields = new Map();
  #inputs = new Map();
  #size = null;
  #seed = null;

  constructor(form, onSubmit) {
    this.#form = form;
    const { prompt, model } = form.elements;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#models.length) return;
      if (prompt.value.trim()) onSubmit(this.read());
      else prompt.focus();
    });
    prompt.value ||= remembered().input?.prompt ?? "";
    prompt.addEventListener("keydown", (event) => {
      // 229: in Safari, the Enter key that selects a word in a Chinese input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      form.requestSubmit();
    });
    model.addEventListener("change", () => this.#build(this.#chosen()));
    form.addEventListener("paste", (event) => this.#paste(event));
    form.addEventListener("input", () => this.#remember());
    form.addEventListener("change", () => {
      this.#showQuality();
      this.#remember();
    });
    onLanguage(() => this.#models.length && this.#build(this.#given()));
  }

  /** Offer these models, as `GET /v1/models` lists them. */
  setModels(models) {
    this.#models = models;
    const { model } = this.#form.elements;
    model.replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
    model.closest(".field").hidden = models.length < 2;
    const stored = remembered();
    if (models.some(({ id }) => id === stored.model)) model.value = stored.model;
    this.#build(stored.input);
  }

  /** Whether there is a model of that name. */
  has = (name) => this.#models.some(({ id }) => id === name);

  read() {
    const input = this.#given();
    if (this.#inputs.has("previews")) input.previews = true;
    return { model: this.#form.elements.model.value, input };
  }

  /** Fill in what a prediction was made with. */
  write({ model, input }) {
    if (this.has(model)) this.#form.elements.model.value = model;
    this.#form.elements.prompt.value = input.prompt ?? "";
    this.#build({ ...withPictures(input), loras: lorasIn(input) });
    this.#remember();
  }

  focus() {
    this.#form.elements.prompt.focus();
  }

  #given() {
    const input = { prompt: this.#form.elements.prompt.value.trim() };
    const values = { ...this.#size?.read(), seed: this.#seed?.read() };
    for (const [name, field] of this.#fields) values[name] = field.read();
    const said = values.mask === undefined ? ALWAYS_SAID : [...ALWAYS_SAID, "strength"]; // with a mask, the API's own is 1
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined && (said.includes(name) || value !== this.#inputs.get(name)?.default)) input[name] = value;
    }
    return input;
  }

  /** Like `#given`, but without the model's own defaults: for a change to another model. */
  #chosen() {
    const isChosen = ([name, value]) => value !== this.#inputs.get(name)?.default;
    return Object.fromEntries(Object.entries(this.#given()).filter(isChosen));
  }

  #build(values = {}) {
    const chosen = this.#models.find(({ id }) => id === this.#form.elements.model.value) ?? this.#models[0];
    this.#inputs = new Map(inputsOf(chosen));
    this.#fields.clear();
    const { maxLength } = this.#inputs.get("prompt") ?? {};
    if (maxLength) this.#form.elements.prompt.maxLength = maxLength;

    const atOnce = [];
    this.#size = null;
    if (this.#inputs.has("width") && this.#inputs.has("height")) {
      this.#size = sizeField(this.#inputs.get("width"), this.#inputs.get("height"));
      this.#size.write(fits(values.width, this.#inputs.get("width")) && fits(values.height, this.#inputs.get("height")) ? values : {});
      atOnce.push(this.#size.element);
    }
    const more = [];
    for (const [name, schema] of this.#inputs) {
      if (NOT_ASKED.includes(name) || !isAsked(name, schema) || !isChoice(schema) || (name === "negative_prompt" && !this.#hasGuidance())) continue;
      const field = fieldOf(name, schema);
      if (fits(values[name], schema)) field.write(values[name]);
      this.#fields.set(name, field);
      (AT_ONCE.includes(name) || field.take ? atOnce : more).push(field.element);
    }
    this.#showQuality();
    this.#seed = null;
    if (this.#inputs.has("seed")) {
      this.#seed = seedField();
      this.#seed.write(values.seed);
      more.unshift(this.#seed.element);
    }
    this.#form.querySelector("[data-fields]").replaceChildren(...atOnce);
    this.#form.querySelector("[data-more]").replaceChildren(...more);
    this.#form.querySelector("[data-about]").textContent = chosen.description ?? "";
    this.#form.querySelector("button[type=submit]").title = t("form.submit.hint");
  }

  /** A pasted picture goes into the first field for pictures that is empty, wherever the cursor is. */
  #paste(event) {
    const file = pictureIn(event.clipboardData);
    const fields = [...this.#fields.values()].filter((field) => field.take);
    const field = fields.find((each) => each.read() === undefined) ?? fields[0];
    if (!file || !field) return;
    event.preventDefault();
    field.take(file);
  }

  /** A PNG has no quality. */
  #showQuality() {
    const [format, quality] = ["output_format", "output_quality"].map((name) => this.#fields.get(name));
    if (format && quality) quality.element.hidden = format.read() === "png";
  }

  #hasGuidance() {
    return (this.#inputs.get("guidance_scale")?.maximum ?? 1) > 0;
  }

  #remember() {
    try {
      // Without pictures: they are too large for it.
      sessionStorage.setItem(KEY, JSON.stringify(this.read(), (_, value) => (isPictureData(value) ? undefined : value)));
    } catch {
      // Storage may be forbidden; the form is then empty after a reload.
    }
  }
}

/** Whether a model takes that value. */
function fits(value, { minimum = -Infinity, maximum = Infinity, multipleOf = 1, enum: choices }) {
  if (value === undefined) return false;
  if (choices) return choices.includes(value);
  return typeof value !== "number" || (value >= minimum && value <= maximum && (multipleOf === 1 || value % multipleOf === 0));
}

/** Of the lists, only those of pictures and of LoRAs have fields. */
const isAsked = (name, schema) => schema.type !== "array" || arePictures(schema) || name === "loras";

/** Whether the input leaves a choice. */
const isChoice = ({ minimum, maximum }) => minimum === undefined || minimum !== maximum;

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
