// The cards of all predictions, newest first, with infinite scrolling: the next page is read before you reach it.
import { get } from "./api.js";
import { Card } from "./card.js";
import { t } from "./words.js";

const PAGE = 40;
const AHEAD = "1500px";

/** Shows what the store has, and fetches more of it. */
export class Gallery {
  #store;
  #list;
  #note;
  #end; // an element behind the last card
  #filters;
  #cards = new Map();
  #actions;
  #next = null; // the query of the next page; null: none, or not known yet
  #reading = null; // an AbortController

  constructor({ list, note, end, store, filters, actions }) {
    this.#store = store;
    this.#list = list;
    this.#note = note;
    this.#filters = filters;
    this.#actions = actions;
    store.onChange((dirty, hasMoved) => this.#update(dirty, hasMoved));
    new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && this.#more(), {
      rootMargin: AHEAD,
    }).observe(end);
    this.#end = end;
  }

  /**
   * Read the first page. `keeping`: the filters are the same, so what was read further down stays, unless so much has
   * come meanwhile that there would be a gap. Returns the ids that were read, or null if it couldn't be.
   */
  async load({ keeping = false } = {}) {
    const parameters = this.#filters.parameters;
    parameters.set("limit", PAGE);
    const asOf = this.#store.clock;
    const page = await this.#read(parameters);
    if (page === null) return null;
    const read = new Set(page.results.map(({ id }) => id));
    const known = this.#store.ids;
    if (keeping && page.next && known.some((id) => read.has(id))) {
      const oldest = page.results.at(-1).id;
      for (const id of known.slice(0, known.indexOf(oldest))) if (!read.has(id)) this.#store.remove(id, asOf);
      for (const prediction of page.results) this.#store.put(prediction, asOf);
    } else {
      this.#store.replace(page.results, asOf, (each) => this.#filters.match(each));
      this.#next = page.next && new URL(page.next).searchParams;
    }
    this.#tellNote();
    this.#fillScreen();
    return read;
  }

  /** Write all cards' words again. */
  translate() {
    for (const [id, card] of this.#cards) card.update(this.#store.get(id), this.#store.live(id));
    this.#tellNote();
  }

  /** The ids beside one in the gallery: [newer, older], either may be undefined. */
  beside(id) {
    const at = this.#store.ids.indexOf(id);
    return at < 0 ? [] : [this.#store.ids[at - 1], this.#store.ids[at + 1]];
  }

  /** Focus a card. Returns false if there is no card for the id. */
  focus(id) {
    const card = this.#cards.get(id);
    card?.element.querySelector("button").focus();
    return card !== undefined;
  }

  /** Update the texts that count down. */
  tick() {
    for (const [id, card] of this.#cards) {
      const prediction = this.#store.get(id);
      if (prediction?.status === "starting") card.update(prediction, this.#store.live(id));
    }
  }

  async #more() {
    if (this.#next === null || this.#reading !== null) return;
    const asOf = this.#store.clock;
    const page = await this.#read(this.#next);
    if (page === null) return;
    for (const prediction of page.results) this.#store.put(prediction, asOf);
    this.#next = page.next && new URL(page.next).searchParams;
    this.#tellNote();
    this.#fillScreen();
  }

  /** On a large screen the end may still be visible after a page was added, and the observer reports only changes. */
  #fillScreen() {
    requestAnimationFrame(() =>
      // The new cards are laid out by then.
      requestAnimationFrame(() => {
        if (this.#end.getBoundingClientRect().top < innerHeight + parseInt(AHEAD, 10)) this.#more();
      }),
    );
  }

  /** A page of the list. Null if another one was requested meanwhile, or after an error, which is shown. */
  async #read(parameters) {
    this.#reading?.abort();
    const reading = (this.#reading = new AbortController());
    this.#list.setAttribute("aria-busy", "true");
    try {
      return await get(`v1/predictions?${parameters}`, { signal: reading.signal });
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 401) {
        this.#note.textContent = t("gallery.unreachable", { reason: error.message });
      }
      return null;
    } finally {
      if (this.#reading === reading) {
        this.#reading = null;
        this.#list.setAttribute("aria-busy", "false");
      }
    }
  }

  #tellNote() {
    const isEmpty = this.#store.ids.length === 0;
    this.#note.textContent = isEmpty ? t(this.#filters.areNone ? "gallery.empty" : "gallery.nothing") : "";
  }

  #update(dirty, hasMoved) {
    for (const id of dirty) {
      const prediction = this.#store.get(id);
      if (prediction) this.#card(id).update(prediction, this.#store.live(id));
    }
    if (hasMoved) {
      this.#arrange();
      this.#tellNote();
    }
  }

  #card(id) {
    if (!this.#cards.has(id)) this.#cards.set(id, new Card(id, this.#actions));
    return this.#cards.get(id);
  }

  /** Put the cards in the store's order. Cards that don't move are not touched, so they keep focus and pictures. */
  #arrange() {
    const ids = this.#store.ids;
    const wanted = new Set(ids);
    for (const [id, card] of this.#cards) {
      if (!wanted.has(id)) {
        card.element.remove();
        this.#cards.delete(id);
      }
    }
    let place = this.#list.firstElementChild;
    for (const id of ids) {
      const { element } = this.#card(id);
      if (element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(element, place);
    }
  }
}
