// The predictions that this page knows, newest first, with their live events while they wait and are drawn.

const OVER = ["succeeded", "failed", "canceled"];

export const isOver = (prediction) => OVER.includes(prediction.status);

/** Newest first, as the API's list: by time, then by id. */
const comesBefore = (a, b) => a.created_at > b.created_at || (a.created_at === b.created_at && a.id > b.id);

/**
 * Holds predictions and calls its listeners at most once per frame, however many changes there are.
 *
 * A listener is called with a Set of ids and whether the order has changed (something came or went).
 */
export class Store {
  #byId = new Map();
  #live = new Map(); // id → { waiting, step, steps, preview }
  #order = [];
  #clock = 0;
  #changedAt = new Map(); // id → the clock when an answer or event last changed or removed it
  #listeners = new Set();
  #dirty = new Set();
  #hasMoved = false;
  #frame = 0;

  onChange(listener) {
    this.#listeners.add(listener);
  }

  get = (id) => this.#byId.get(id);
  live = (id) => this.#live.get(id) ?? {};

  /** All ids, newest first. */
  get ids() {
    return this.#order;
  }

  /** The present moment, for `asOf`: note it before asking for a list. */
  get clock() {
    return this.#clock;
  }

  /** Take in a prediction; `asOf`: of a list that was asked for then, so what has changed since is left as it is. */
  put(prediction, asOf = Infinity) {
    if (this.#hasChangedSince(prediction.id, asOf)) return;
    const known = this.#byId.get(prediction.id);
    if (known && isOver(known) && !isOver(prediction)) return; // an outdated answer
    if (asOf === Infinity) this.#changedAt.set(prediction.id, (this.#clock += 1));
    this.#byId.set(prediction.id, prediction);
    if (!known) this.#insert(prediction);
    if (isOver(prediction)) this.#live.delete(prediction.id);
    else if (known && known.status !== prediction.status) this.#live.set(prediction.id, {});
    this.#touch(prediction.id);
  }

  remove(id, asOf = Infinity) {
    if (this.#hasChangedSince(id, asOf) || !this.#byId.delete(id)) return;
    this.#changedAt.set(id, (this.#clock += 1));
    this.#live.delete(id);
    this.#order.splice(this.#order.indexOf(id), 1);
    this.#hasMoved = true;
    this.#touch(id);
  }

  /** Hold these, and of what has changed since `asOf` also what `match` accepts; nothing else. */
  replace(predictions, asOf = Infinity, match = () => true) {
    const wanted = new Set(predictions.map(({ id }) => id));
    for (const id of [...this.#order]) {
      if (!wanted.has(id) && !(this.#hasChangedSince(id, asOf) && match(this.#byId.get(id)))) this.remove(id);
    }
    for (const prediction of predictions) this.put(prediction, asOf);
    this.#hasMoved = true;
    this.#touch("");
  }

  /** Store the data of an event about a prediction that isn't over. */
  tell(name, { id, ...data }) {
    const prediction = this.#byId.get(id);
    if (!prediction || isOver(prediction)) return;
    const live = { ...this.#live.get(id) };
    if (name === "queued" || name === "loading") live.waiting = { ...data, isLoading: name === "loading" };
    else if (name === "progress") Object.assign(live, { step: data.step, steps: data.steps });
    else if (name === "preview") live.preview = data.image;
    this.#live.set(id, live);
    this.#touch(id);
  }

  #hasChangedSince = (id, asOf) => (this.#changedAt.get(id) ?? -1) > asOf;

  #insert(prediction) {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (comesBefore(this.#byId.get(this.#order[middle]), prediction)) low = middle + 1;
      else high = middle;
    }
    this.#order.splice(low, 0, prediction.id);
    this.#hasMoved = true;
  }

  #touch(id) {
    this.#dirty.add(id);
    if (this.#frame) return;
    const tell = () => {
      const [dirty, hasMoved] = [this.#dirty, this.#hasMoved];
      [this.#dirty, this.#hasMoved, this.#frame] = [new Set(), false, 0];
      for (const listener of this.#listeners) listener(dirty, hasMoved);
    };
    // The browser renders no frames for a hidden tab.
    this.#frame = document.hidden ? setTimeout(tell, 250) : requestAnimationFrame(tell);
  }
}
