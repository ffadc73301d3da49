// The full view of a prediction: its pictures, its inputs, and the actions on it.
import { pictureUrl } from "./api.js";
import { h, icon } from "./dom.js";
import { lorasIn, loraWords } from "./lora_field.js";
import { sentWords } from "./sent_picture.js";
import { LANGUAGES, copy } from "./snippets.js";
import { share, stateWords } from "./state_words.js";
import { isOver } from "./store.js";
import { moment, onLanguage, t } from "./words.js";

/** The dialog. `actions`: cancel, retry, again, reuse, keep and remove, each with a prediction, and compose. */
export class Viewer {
  #dialog;
  #store;
  #gallery;
  #actions;
  #id = null;
  #at = 0; // which of its pictures
  #beside = []; // the ids of its neighbours: where the focus goes when it is deleted
  #parts;
  #drawn = ""; // the state of the parts with controls, which are rendered again only if it changes

  constructor({ dialog, store, gallery, actions }) {
    this.#dialog = dialog;
    this.#store = store;
    this.#gallery = gallery;
    this.#actions = actions;
    this.#parts = Object.fromEntries([...dialog.querySelectorAll("[data-part]")].map((each) => [each.dataset.part, each]));
    dialog.addEventListener("keydown", (event) => this.#key(event));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      const id = this.#id;
      this.#id = null;
      [id, ...this.#beside].some((each) => this.#gallery.focus(each)) || this.#actions.compose();
    });
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    store.onChange((dirty) => dirty.has(this.#id) && this.#update());
    onLanguage(() => {
      this.#drawn = "";
      if (this.#id) this.#update();
    });
    this.#parts.newer.addEventListener("click", () => this.#go(0));
    this.#parts.older.addEventListener("click", () => this.#go(1));
  }

  open(id) {
    this.#id = id;
    this.#at = 0;
    this.#drawn = "";
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#update();
  }

  #go(direction) {
    const id = this.#gallery.beside(this.#id)[direction];
    if (id) this.open(id);
  }

  #key(event) {
    if (event.target.closest("textarea, input, select, pre")) return;
    if (event.key === "ArrowLeft") this.#go(0);
    else if (event.key === "ArrowRight") this.#go(1);
  }

  #update() {
    const prediction = this.#store.get(this.#id);
    if (!prediction) {
      this.#dialog.close();
      return;
    }
    const live = this.#store.live(this.#id);
    const [newer, older] = this.#gallery.beside(this.#id);
    this.#beside = [older, newer];
    this.#parts.newer.disabled = !newer;
    this.#parts.older.disabled = !older;
    this.#parts.state.textContent = stateWords(prediction, live);
    this.#parts.bar.hidden = prediction.status !== "processing";
    this.#parts.bar.firstElementChild.style.transform = `scaleX(${share(live)})`;
    this.#showPicture(prediction, live);
    const { status, keep, data_removed } = prediction;
    const drawn = JSON.stringify([this.#id, status, keep, data_removed]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      this.#draw(prediction);
    }
  }

  #showPicture(prediction, live) {
    const output = prediction.output ?? [];
    const url = output.length ? pictureUrl(output[this.#at]) : (live.preview ?? "");
    const { picture, pictures } = this.#parts;
    picture.classList.toggle("preview", !output.length);
    picture.style.setProperty("--blur", output.length ? "0px" : `${((1 - share(live)) * 12).toFixed(1)}px`);
    if (picture.getAttribute("src") !== url) {
      picture.hidden = !url;
      if (url) picture.src = url;
      else picture.removeAttribute("src");
    }
    picture.alt = prediction.input?.prompt ?? "";
    pictures.hidden = output.length < 2;
    if (pictures.childElementCount !== output.length) {
      pictures.replaceChildren(
        ...output.map((each, index) =>
          h(
            "button",
            {
              type: "button",
              "aria-label": t("viewer.picture", { number: index + 1, count: output.length }),
              onclick: () => {
                this.#at = index;
                this.#drawn = "";
                this.#update();
              },
            },
            h("img", { src: pictureUrl(prediction.thumbnails?.[index] ?? each), alt: "" }),
          ),
        ),
      );
    }
    [...pictures.children].forEach((each, index) => each.setAttribute("aria-pressed", String(index === this.#at)));
  }

  #draw(prediction) {
    const { prompt, error, facts, actions, snippets, logs } = this.#parts;
    prompt.textContent = prediction.input?.prompt ?? "";
    error.textContent = prediction.error ?? "";
    error.hidden = !prediction.error;
    facts.replaceChildren(...factsOf(prediction).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    logs.querySelector("pre").textContent = prediction.logs ?? "";
    logs.hidden = !prediction.logs;
    actions.replaceChildren(...this.#buttons(prediction).filter(Boolean));
    this.#drawSnippets(snippets, prediction);
  }

  #buttons(prediction) {
    const output = prediction.output ?? [];
    const button = (name, symbol, act) => h("button", { type: "button", onclick: act }, icon(symbol), t(`action.${name}`));
    const act = (name) => () => this.#actions[name](prediction);
    const removed = prediction.data_removed;
    return [
      output.length > 0 &&
        h("a", { class: "button", href: pictureUrl(output[this.#at]), download: `${prediction.id}-${this.#at}` }, icon("download"), t("action.download")),
      !isOver(prediction) && button("cancel", "close", act("cancel")),
      !removed && ["failed", "canceled"].includes(prediction.status) && button("retry", "again", act("retry")),
      !removed && prediction.status === "succeeded" && button("again", "again", act("again")),
      !removed && button("reuse", "sliders", act("reuse")),
      !removed && this.#keepButton(prediction, act("keep")),
      this.#deleteButton(prediction),
    ];
  }

  #keepButton(prediction, act) {
    const name = prediction.keep ? "kept" : "keep";
    return h("button", { type: "button", "aria-pressed": String(prediction.keep), title: t("action.keep.hint"), onclick: act }, icon("star"), t(`action.${name}`));
  }

  /** It asks once more, where it stands. */
  #deleteButton(prediction) {
    const words = h("span", {}, t("action.delete"));
    const button = h(
      "button",
      {
        type: "button",
        class: "danger",
        onclick: () => {
          if (button.dataset.asked) this.#actions.remove(prediction);
          button.dataset.asked = "yes";
          words.textContent = t("action.delete.sure");
        },
        onblur: () => {
          delete button.dataset.asked;
          words.textContent = t("action.delete");
        },
      },
      icon("trash"),
      words,
    );
    return button;
  }

  #drawSnippets(details, { model, input }) {
    details.hidden = !input?.prompt;
    if (details.hidden) return;
    const { previews: _, ...asked } = input;
    const tabs = details.querySelector("[data-tabs]");
    const code = details.querySelector("pre");
    const show = (name) => {
      code.textContent = LANGUAGES[name]({ model, input: asked });
      for (const each of tabs.children) if (each.dataset.name) each.setAttribute("aria-pressed", String(each.dataset.name === name));
    };
    const copied = h("button", {
      type: "button",
      onclick: async () => {
        const done = await copy(code.textContent);
        copied.replaceChildren(icon("copy"), t(done ? "snippet.copied" : "snippet.not_copied"));
      },
    }, icon("copy"), t("snippet.copy"));
    tabs.replaceChildren(
      ...Object.keys(LANGUAGES).map((name) => h("button", { type: "button", "data-name": name, onclick: () => show(name) }, name)),
      copied,
    );
    show("curl");
  }
}

/** Everything known about the prediction, as pairs of label and value. */
function factsOf(prediction) {
  const facts = [[t("fact.model"), prediction.model]];
  const { prompt: _, previews: __, loras, lora_weights, lora_scale, ...inputs } = prediction.input ?? {};
  const asked = lorasIn({ loras, lora_weights, lora_scale });
  if (prediction.seed !== null && prediction.seed !== undefined) inputs.seed = prediction.seed;
  for (const [name, value] of Object.entries(inputs)) {
    const words = t(`input.${name}`);
    facts.push([words === `input.${name}` ? name : words, factOf(value)]);
  }
  if (asked.length) facts.push([t("input.loras"), loraWords(asked)]);
  for (const [name, value] of Object.entries(prediction.metadata ?? {})) facts.push([name, String(value)]);
  facts.push([t("fact.created"), moment(prediction.created_at)]);
  const { queue_time, predict_time } = prediction.metrics ?? {};
  if (queue_time !== undefined) facts.push([t("fact.queue"), seconds(queue_time)]);
  if (predict_time !== undefined) facts.push([t("fact.predict"), seconds(predict_time)]);
  if (prediction.metrics?.cached) facts.push([t("fact.cached"), t("yes")]);
  facts.push([t("fact.id"), prediction.id]);
  return facts;
}

/** An input's value in words. */
function factOf(value) {
  if (Array.isArray(value)) return value.map(factOf).join(", ");
  return sentWords(value) ?? (typeof value === "string" ? value : JSON.stringify(value));
}

const seconds = (value) => t("duration.exact", { count: Number(value.toFixed(2)) });
