// A field for a picture, if the model takes one (an input of the format "uri"): chosen, dropped or pasted. The request
// carries it as a data: URL.
import { h, icon } from "./dom.js";
import { sentWords } from "./sent_picture.js";
import { t } from "./words.js";

let made = 0;

export const isPictureData = (value) => typeof value === "string" && value.startsWith("data:image/") && sentWords(value) === undefined;

/** The first picture in the dropped or pasted data, as a File; undefined if there is none. */
export const pictureIn = (transfer) => [...(transfer?.files ?? [])].find(({ type }) => type.startsWith("image/"));

/**
 * As the other fields, and `take(file)`. A value that is not a data: URL (an address, or the description of a picture
 * that was sent before) is kept, and shown as text.
 * `onChange` is called when the value changes.
 */
export function pictureField(name, { hint, onChange = () => {} } = {}) {
  const id = `picture-${(made += 1)}`;
  let value;

  const control = h("input", { type: "file", accept: "image/*", id, "aria-describedby": `${id}-hint ${id}-problem` });
  const image = h("img", { alt: "" });
  const words = h("span", {});
  const problem = h("small", { class: "error", id: `${id}-problem`, role: "alert" });
  const remove = h(
    "button",
    {
      type: "button",
      class: "quiet",
      title: t("picture.remove"),
      "aria-label": `${t("picture.remove")}: ${name}`,
      onclick: () => {
        write(undefined);
        control.focus();
      },
    },
    icon("close"),
  );
  const zone = h("div", { class: "picture-field" }, control, h("label", { for: id }, image, words), remove);
  const about = hint ? h("small", { id: `${id}-hint` }, hint) : null;
  const element = h("fieldset", { class: "field" }, h("legend", {}, name), zone, about, problem);

  function write(given) {
    value = given || undefined;
    control.value = "";
    problem.textContent = "";
    image.hidden = !isPictureData(value);
    if (isPictureData(value)) image.src = value;
    else image.removeAttribute("src");
    words.textContent = isPictureData(value) ? "" : wordsFor(value);
    image.alt = value === undefined ? "" : name;
    remove.hidden = value === undefined;
    onChange();
  }

  async function take(file) {
    const read = await dataUrl(file);
    const isShown = await decodes(read);
    if (isShown) write(read);
    else problem.textContent = t("picture.not_one");
  }

  control.addEventListener("change", () => control.files.length && take(control.files[0]));
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault(); // otherwise the browser leaves the page and opens the file
    zone.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  write(undefined);
  return { element, read: () => value, write, take };
}

/** The text in the field if the picture itself can't be shown. */
function wordsFor(value) {
  if (value === undefined) return t("picture.choose");
  const sent = sentWords(value);
  return sent === undefined ? value : t("picture.same", { picture: sent });
}

/** Several pictures, at most `most`: after the last one there is an empty field for another. */
export function picturesField(name, most) {
  const element = h("div", { class: "picture-fields" });
  let fields = [];
  let isWriting = false;

  const filled = () => fields.filter((field) => field.read() !== undefined);

  function arrange() {
    if (isWriting) return;
    const kept = filled();
    const empty = fields.filter((field) => !kept.includes(field));
    fields = kept.length < most ? [...kept, empty[0] ?? made(kept.length + 1)] : kept;
    const shown = fields.map((field) => field.element);
    for (const old of [...element.children]) if (!shown.includes(old)) old.remove();
    shown.forEach((each, index) => {
      if (element.children[index] !== each) element.insertBefore(each, element.children[index] ?? null);
    });
    fields.forEach((field, index) => (field.element.querySelector("legend").textContent = `${name} ${index + 1}`));
  }

  function made(number) {
    isWriting = true; // a new field calls at once
    const field = pictureField(`${name} ${number}`, { onChange: arrange });
    isWriting = false;
    return field;
  }

  function write(values) {
    const given = (Array.isArray(values) ? values : []).filter(Boolean).slice(0, most);
    fields = given.map((_, index) => made(index + 1));
    isWriting = true;
    fields.forEach((field, index) => field.write(given[index]));
    isWriting = false;
    arrange();
  }

  write([]);
  return {
    element,
    read: () => (filled().length ? filled().map((field) => field.read()) : undefined),
    write,
    take: (file) => (fields.find((field) => field.read() === undefined) ?? fields[0]).take(file),
  };
}

function dataUrl(file) {
  return new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => done("");
    reader.readAsDataURL(file);
  });
}

/** Whether the browser can show it. */
async function decodes(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return isPictureData(url);
  } catch {
    return false;
  }
}
