// A field for LoRAs, if the model has any: for each one a menu of names, with its strength beside it.
import { h } from "./dom.js";
import { t } from "./words.js";

let made = 0;

/** A field as in fields.js. After the last LoRA there is a menu for another, up to all names or `maxItems`. */
export function loraField(name, schema) {
  const known = new Map((schema["x-loras"] ?? []).map((lora) => [lora.name, lora]));
  const names = [...known.keys()];
  const most = Math.min(schema.maxItems ?? Infinity, names.length);
  const hint = h("small", { id: `lora-${(made += 1)}-hint` }, t("hint.loras"));
  const list = h("div", { class: "loras" });
  const element = h("fieldset", { class: "field" }, h("legend", {}, name), list, hint);
  let rows = [];

  const filled = () => rows.filter((row) => row.select.value);

  function arrange() {
    const kept = filled();
    const [empty] = rows.filter((row) => !row.select.value);
    rows = kept.length < most ? [...kept, empty ?? newRow()] : kept;
    for (const old of [...list.children]) if (!rows.some((row) => row.element === old)) old.remove();
    rows.forEach((row, index) => {
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index] ?? null);
      row.scale.hidden = !row.select.value;
      if (row.scale.hidden) row.scale.value = "";
      row.scale.setAttribute("aria-label", t("lora.scale.of", { name: row.select.value }));
      for (const option of row.select.options) {
        option.disabled = option.value !== "" && rows.some((other) => other !== row && other.select.value === option.value);
      }
    });
  }

  /** `given`: a LoRA that needn't be among the model's names (an address). */
  function newRow(given = { name: "" }) {
    const offered = !given.name || names.includes(given.name) ? names : [...names, given.name];
    const options = [h("option", { value: "" }, t("lora.none")), ...offered.map((each) => h("option", { value: each, title: known.get(each)?.description || null }, each))];
    const select = h("select", { "aria-label": name, "aria-describedby": hint.id, onchange: arrange }, ...options);
    select.value = given.name;
    const { minimum, maximum } = scaleIn(schema);
    const scale = h("input", { type: "number", inputmode: "decimal", min: minimum ?? null, max: maximum ?? null, step: 0.1, placeholder: t("lora.scale"), value: given.scale ?? "" });
    return { element: h("div", {}, select, scale), select, scale };
  }

  function write(given) {
    rows = lorasIn({ loras: given }).map(newRow);
    arrange();
  }

  write([]);
  return {
    element,
    read: () => (filled().length ? filled().map(valueOf) : undefined),
    write,
  };
}

const valueOf = ({ select, scale }) => ({ name: select.value, ...(scale.value === "" ? {} : { scale: Number(scale.value) }) });

const scaleIn = ({ items }) => items?.anyOf?.find(({ properties }) => properties)?.properties.scale ?? {};

/** The LoRAs of an input, each with its name and its scale if one was given; includes one in `lora_weights`. */
export function lorasIn({ loras, lora_weights: name, lora_scale: scale }) {
  const listed = (Array.isArray(loras) ? loras : []).map((each) => (typeof each === "string" ? { name: each } : each));
  return name ? [...listed, { name, ...(typeof scale === "number" ? { scale } : {}) }] : listed;
}

/** "outlined (0.8), pastel" */
export const loraWords = (loras) => lorasIn({ loras }).map(({ name, scale }) => (typeof scale === "number" ? `${name} (${scale})` : name)).join(", ");
