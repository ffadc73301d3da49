// The predictions that this page knows, newest first, and what is told of them while they wait and are drawn.

const OVER = ["succeeded", "failed", "canceled"];

export const isOver = (prediction) => OVER.includes(prediction.status);

/** Newest first, as the API's list: by time, then by id. */
const comesBefore = (a, b) => a.created_at > b.created_at || (a.created_at === b.created_at && a.id > b.id);

/**
 * Holds predictions and tells its listeners once a frame what has changed, however much comes in.
 *
 * A listener is called with a Set of ids and whether the order has changed (something came or went).
 */
export class Store {
  #byId = new Map();
  #live = new Map(); // id → { waiting, step, steps, preview }
  #order = [];
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

  put(prediction) {
    const known = this.#byId.get(prediction.id);
    if (known && isOver(known) && !isOver(prediction)) return; // an answer that was overtaken
    this.#byId.set(prediction.id, prediction);
    if (!known) this.#insert(prediction);
    if (isOver(prediction)) this.#live.delete(prediction.id);
    else if (known && known.status !== prediction.status) this.#live.set(prediction.id, {});
    this.#touch(prediction.id);
  }

  remove(id) {
    if (!this.#byId.delete(id)) return;
    this.#live.delete(id);
    this.#order.splice(this.#order.indexOf(id), 1);
    this.#hasMoved = true;
    this.#touch(id);
  }

  /** Hold these, and nothing else. */
  replace(predictions) {
    const wanted = new Set(predictions.map(({ id }) => id));
    for (const id of [...this.#order]) if (!wanted.has(id)) this.remove(id);
    for (const prediction of predictions) this.put(prediction);
    this.#hasMoved = true;
    this.#touch("");
  }

  /** What an event says of a prediction that isn't over. */
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
    // A hidden tab has no frames.
    this.#frame = document.hidden ? setTimeout(tell, 250) : requestAnimationFrame(tell);
  }
}
