// One prediction in the gallery.
import { pictureUrl } from "./api.js";
import { h, icon } from "./dom.js";
import { share, stateWords } from "./state_words.js";
import { isOver } from "./store.js";
import { t } from "./words.js";

/** A card with `element` and `update(prediction, live)`. `actions`: open, cancel and retry, each with an id. */
export class Card {
  #id;
  #shown = ""; // what the picture shows
  #said = ""; // all else that the card shows
  #parts = {};

  constructor(id, actions) {
    this.#id = id;
    const parts = this.#parts;
    parts.image = h("img", { alt: "", decoding: "async", loading: "lazy", draggable: "false", hidden: true });
    parts.state = h("span", { class: "state" });
    parts.bar = h("span", { class: "bar" }, h("span"));
    parts.count = h("span", { class: "count" });
    parts.keep = h("span", { class: "kept" }, icon("star"));
    parts.prompt = h("span", { class: "prompt" });
    parts.open = h(
      "button",
      { type: "button", class: "open", onclick: () => actions.open(id) },
      h("span", { class: "frame" }, parts.image, parts.count, parts.keep, parts.state, parts.bar),
      parts.prompt,
    );
    parts.cancel = h("button", { type: "button", class: "corner", onclick: () => actions.cancel(id) }, icon("close"));
    parts.retry = h("button", { type: "button", class: "corner", onclick: () => actions.retry(id) }, icon("again"));
    this.element = h("li", { class: "card", "data-id": id }, parts.open, parts.cancel, parts.retry);
  }

  update(prediction, live) {
    const parts = this.#parts;
    const words = stateWords(prediction, live);
    const { status } = prediction;
    const output = prediction.output ?? [];
    this.#show(prediction, live, output);
    // A hundred cards may get an event every second. The page stays smooth because only changes are written.
    const said = JSON.stringify([words, share(live), status, output.length, prediction.keep, prediction.data_removed, t("action.cancel")]);
    if (said === this.#said) return;
    this.#said = said;
    this.element.dataset.status = status;
    this.element.classList.toggle("busy", !isOver(prediction));
    parts.prompt.textContent = prediction.input?.prompt ?? "";
    parts.state.textContent = status === "succeeded" && !prediction.data_removed ? "" : [words, status === "failed" && prediction.error].filter(Boolean).join("\n");
    parts.open.setAttribute("aria-label", `${prediction.input?.prompt ?? ""} – ${words}`);
    parts.bar.hidden = status !== "processing";
    parts.bar.firstChild.style.transform = `scaleX(${share(live)})`;
    parts.image.classList.toggle("preview", !output.length);
    // The preview sharpens as the drawing goes on.
    parts.image.style.setProperty("--blur", output.length ? "0px" : `${((1 - share(live)) * 8).toFixed(1)}px`);
    parts.count.textContent = output.length > 1 ? `×${output.length}` : "";
    parts.keep.hidden = !prediction.keep;
    if (isOver(prediction) && document.activeElement === parts.cancel) parts.open.focus(); // the button is about to be hidden
    parts.cancel.hidden = isOver(prediction);
    parts.retry.hidden = !["failed", "canceled"].includes(status);
    parts.cancel.setAttribute("aria-label", t("action.cancel"));
    parts.retry.setAttribute("aria-label", t("action.retry"));
    parts.cancel.title = t("action.cancel");
    parts.retry.title = t("action.retry");
  }

  #show(prediction, live, output) {
    const { image } = this.#parts;
    const url = output.length ? pictureUrl(prediction.thumbnails?.[0] ?? output[0]) : (live.preview ?? "");
    if (url === this.#shown) return;
    this.#shown = url;
    if (url) {
      image.src = url;
      image.hidden = false;
      image.onerror = () => {
        image.hidden = true;
        this.element.classList.add("lost");
        if (prediction.output) this.#parts.state.textContent = t("state.lost");
      };
    } else {
      image.removeAttribute("src");
      image.hidden = true;
    }
  }

  get id() {
    return this.#id;
  }
}
