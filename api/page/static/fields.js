// One field of the form for one input of a model, made from the input's schema.
import { h, icon } from "./dom.js";
import { loraField } from "./lora_field.js";
import { pictureField, picturesField } from "./picture_field.js";
import { ratioWords, sizePresets } from "./schema.js";
import { t } from "./words.js";

const SYNONYMS = { jpeg: "jpg" };

let made = 0;

/** A label with its control. */
function labelled(words, control, { hint, value } = {}) {
  const id = `field-${(made += 1)}`;
  control.id = id;
  const label = h("label", { for: id }, words, value ?? null);
  const described = hint ? h("small", { id: `${id}-hint` }, hint) : null;
  if (described) control.setAttribute("aria-describedby", described.id);
  return h("div", { class: "field" }, label, control, described);
}

/** The label of an input: translated if the page knows the input, else the API's name. */
const nameOf = (name) => {
  const words = t(`input.${name}`);
  return words === `input.${name}` ? name.replaceAll("_", " ") : words;
};

/** The hint below the field, or undefined. */
const hintOf = (name) => {
  const words = t(`hint.${name}`);
  return words === `hint.${name}` ? undefined : words;
};

/** Whether an input is a list of pictures. */
export const arePictures = ({ type, items }) => type === "array" && items?.format === "uri";

/** Fields have `element`, `read()` (undefined: leave the input out) and `write(value)`. */
export function fieldOf(name, schema) {
  if (schema.enum) return choice(name, schema);
  if (schema.type === "string" && schema.format === "uri") return pictureField(nameOf(name), { hint: hintOf(name) });
  if (arePictures(schema)) return picturesField(nameOf(name), schema.maxItems ?? Infinity);
  if (name === "loras") return loraField(nameOf(name), schema);
  if (schema.type === "boolean") return checkbox(name, schema);
  if (schema.type === "integer" || schema.type === "number") {
    return schema.maximum !== undefined && schema.default !== undefined && schema.maximum - (schema.minimum ?? 0) <= 200
      ? slider(name, schema)
      : number(name, schema);
  }
  return text(name, schema);
}

function text(name, schema) {
  const control = h("textarea", { rows: 2, maxlength: schema.maxLength ?? null });
  return {
    element: labelled(nameOf(name), control, { hint: hintOf(name) }),
    read: () => control.value.trim() || undefined,
    write: (value) => (control.value = value ?? ""),
  };
}

function number(name, schema) {
  const control = h("input", {
    type: "number",
    inputmode: schema.type === "integer" ? "numeric" : "decimal",
    min: schema.minimum ?? null,
    max: schema.maximum ?? null,
    step: schema.multipleOf ?? (schema.type === "integer" ? 1 : "any"),
    value: schema.default ?? "",
  });
  return {
    element: labelled(nameOf(name), control, { hint: hintOf(name) }),
    read: () => (control.value === "" ? undefined : Number(control.value)),
    write: (value) => (control.value = value ?? schema.default ?? ""),
  };
}

function slider(name, schema) {
  const shown = h("output", {});
  const step = schema.type === "integer" ? 1 : schema.maximum <= 1 ? 0.05 : 0.1;
  const control = h("input", { type: "range", min: leastOf(schema, step), max: schema.maximum, step });
  const show = () => (shown.textContent = control.value);
  const write = (value) => {
    control.value = value ?? schema.default;
    show();
  };
  control.addEventListener("input", show);
  write();
  return { element: labelled(nameOf(name), control, { value: shown, hint: hintOf(name) }), read: () => Number(control.value), write };
}

/** The first multiple of `step` that the schema allows: a slider's own steps start at its least value. */
function leastOf({ minimum = 0, exclusiveMinimum }, step) {
  const limit = typeof exclusiveMinimum === "number" ? exclusiveMinimum : minimum;
  const steps = Math.ceil(limit / step);
  const isAllowed = steps * step > limit || exclusiveMinimum === undefined || exclusiveMinimum === false;
  return Number(((isAllowed ? steps : steps + 1) * step).toFixed(2));
}

function checkbox(name, schema) {
  const control = h("input", { type: "checkbox" });
  control.checked = schema.default ?? false;
  return {
    element: h("label", { class: "check" }, control, nameOf(name)),
    read: () => control.checked,
    write: (value) => (control.checked = value ?? schema.default ?? false),
  };
}

function choice(name, schema) {
  const group = `choice-${(made += 1)}`;
  const values = schema.enum.filter((value) => !(SYNONYMS[value] && schema.enum.includes(SYNONYMS[value])));
  const radios = values.map((value) => h("input", { type: "radio", name: group, value }));
  const write = (value) => {
    for (const radio of radios) radio.checked = radio.value === (SYNONYMS[value] ?? value ?? schema.default ?? values[0]);
  };
  write();
  return {
    element: h(
      "fieldset",
      { class: "field segments" },
      h("legend", {}, nameOf(name)),
      h("div", {}, ...radios.map((radio) => h("label", {}, radio, h("span", {}, radio.value)))),
    ),
    read: () => radios.find((radio) => radio.checked)?.value,
    write,
  };
}

/** Width and height as one choice of shapes; the last choice is for custom numbers. */
export function sizeField(width, height) {
  const presets = sizePresets(width, height);
  const group = `size-${(made += 1)}`;
  const across = number("width", width);
  const down = number("height", height);
  const own = h("div", { class: "own-size" }, across.element, down.element);
  const options = presets.map((size) => ({ size, radio: h("input", { type: "radio", name: group }) }));
  const other = h("input", { type: "radio", name: group });
  const canChoose = (schema) => schema.minimum !== schema.maximum;

  const show = () => (own.hidden = !other.checked);
  const write = (input = {}) => {
    const [wide, high] = [input.width ?? width.default, input.height ?? height.default];
    const found = options.find(({ size }) => size[0] === wide && size[1] === high);
    (found?.radio ?? other).checked = true;
    across.write(wide);
    down.write(high);
    show();
  };
  const element = h(
    "fieldset",
    { class: "field sizes", hidden: !canChoose(width) && !canChoose(height) },
    h("legend", {}, t("input.size")),
    h(
      "div",
      {},
      ...options.map(({ size, radio }) =>
        h("label", { title: `${size[0]} × ${size[1]}` }, radio, h("span", {}, shape(size), ratioWords(size), h("small", {}, `${size[0]} × ${size[1]}`))),
      ),
      h("label", {}, other, h("span", {}, icon("sliders"), t("size.other"))),
    ),
    own,
  );
  element.addEventListener("change", () => {
    const found = options.find(({ radio }) => radio.checked);
    if (found) [across, down].forEach((field, index) => field.write(found.size[index]));
    show();
  });
  write();
  return { element, read: () => ({ width: across.read(), height: down.read() }), write };
}

/** A rectangle with that aspect ratio. */
function shape([width, height]) {
  const longest = Math.max(width, height);
  const rectangle = h("i", { class: "shape", "aria-hidden": "true" });
  rectangle.style.width = `${(18 * width) / longest}px`;
  rectangle.style.height = `${(18 * height) / longest}px`;
  return rectangle;
}

/** A seed: empty for a random one. The dice button fills in a random number, so that it can be used again. */
export function seedField() {
  const control = h("input", { type: "text", inputmode: "numeric", pattern: "[0-9]*", maxlength: 20, placeholder: t("seed.random"), autocomplete: "off" });
  const dice = h(
    "button",
    {
      type: "button",
      class: "quiet",
      title: t("seed.dice"),
      "aria-label": t("seed.dice"),
      onclick: () => (control.value = String(crypto.getRandomValues(new Uint32Array(1))[0])),
    },
    icon("dice"),
  );
  const element = labelled(t("input.seed"), control);
  const row = h("div", { class: "with-button" });
  control.before(row);
  row.append(control, dice);
  return {
    element,
    // Beyond 2^53 JSON numbers lose digits in JavaScript; such a seed counts with its lowest 32 bits only anyway.
    read: () => (/^[0-9]+$/.test(control.value.trim()) ? Number(BigInt(control.value.trim()) % 4294967296n) : undefined),
    write: (value) => (control.value = value ?? ""),
  };
}
