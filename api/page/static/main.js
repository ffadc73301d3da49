// The page: a form, the gallery of all predictions, and one of them in full.
import { ApiError, get, onUnauthorized, send, submit } from "./api.js";
import { follow } from "./events.js";
import { Filters } from "./filters.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { initPreferences } from "./preferences.js";
import { say } from "./problem.js";
import { Store, isOver } from "./store.js";
import { initToken } from "./token.js";
import { Viewer } from "./viewer.js";
import { onLanguage, t, translate } from "./words.js";

const $ = (id) => document.getElementById(id);

const store = new Store();
let isRefused = false; // the API wants another token
let modelsShown = "";
let hasFailed = false; // to load them
const own = new Set(); // submitted in this tab, so their results are announced to screen readers

const actions = {
  open: (id) => viewer.open(id),
  cancel: (id) => act(() => send("POST", `v1/predictions/${idOf(id)}/cancel`), store.put.bind(store)),
  retry: (id) => draw(requestOf(store.get(idOf(id)))),
  // Without the cache, which may hold a picture that any seed is answered with (`reuse`).
  again: ({ model, input: { seed: _, ...input } }) => draw({ model, input: { ...input, cache: false } }),
  reuse(prediction) {
    $("viewer").close();
    form.write({ model: prediction.model, input: { ...prediction.input, seed: prediction.seed ?? undefined } });
    form.focus();
  },
  keep: ({ id, keep }) =>
    act(() => send("POST", `v1/predictions/${id}/keep`, { body: { keep: !keep } }), store.put.bind(store)),
  compose: () => form.focus(),
  remove: ({ id }) => act(() => send("DELETE", `v1/predictions/${id}`), () => store.remove(id)),
};
const idOf = (given) => (typeof given === "string" ? given : given.id);
const requestOf = ({ model, input }) => ({ model, input });

const filters = new Filters($("filters"), () => gallery.load());
const gallery = new Gallery({ list: $("gallery"), note: $("note"), end: $("end"), store, filters, actions });
const viewer = new Viewer({ dialog: $("viewer"), store, gallery, actions });
const form = new Form($("form"), draw);

initPreferences({ language: $("language"), theme: $("theme") });
initToken({
  dialog: $("token-dialog"),
  button: $("token-button"),
  onChange() {
    isRefused = false;
    loadModels();
    reconnect();
  },
});
const reconnect = follow({
  onEvent: hear,
  // Without a token there is no connection either, but the dialog already says so.
  onState(isConnected) {
    $("offline").hidden = isConnected || isRefused;
    if (!isConnected && !isRefused) findOutWhy();
  },
});
let isFirstReady = true;

translate(document);
onLanguage(() => gallery.translate());
onUnauthorized(() => {
  isRefused = true;
  $("offline").hidden = true;
  store.replace([]);
});
loadModels();
setInterval(() => document.hidden || gallery.tick(), 1000);

async function loadModels() {
  try {
    const { results } = await get("v1/models");
    isRefused = hasFailed = false;
    const shown = JSON.stringify(results);
    if (shown === modelsShown) return; // don't reset a form that the user is filling in
    modelsShown = shown;
    form.setModels(results);
    filters.setModels(results.map(({ id }) => id));
    $("submit").disabled = false;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    hasFailed = true;
    if (error.status !== 401) say(error.message);
  }
}

/** A refused WebSocket doesn't say why; another request of the same scope does. */
async function findOutWhy() {
  try {
    await get("v1/predictions?limit=1");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== 403) return;
    isRefused = true;
    $("offline").hidden = true;
    $("note").textContent = error.message;
  }
}

/** Submit the form's request. Its card appears as soon as the API accepts it. */
async function draw(asked) {
  if ($("viewer").open) $("viewer").close();
  say("");
  $("submit").setAttribute("aria-busy", "true");
  await act(
    () => submit(asked),
    (prediction) => {
      own.add(prediction.id);
      store.put(prediction);
      window.scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    },
  );
  $("submit").removeAttribute("aria-busy");
}

/** Call the API, and show the error if there is one. */
async function act(ask, done) {
  try {
    done(await ask());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 404) gallery.load({ keeping: true });
    if (error.status !== 401) say(error.status === 0 ? t("error.unreachable") : error.message);
  }
}

function hear(name, data) {
  if (name === "ready") {
    isRefused = false;
    // A connection that comes again may be to an API with other models, and an earlier try may have failed.
    if (!isFirstReady || hasFailed) loadModels();
    refresh();
  } else if (name === "prediction") {
    if (!store.get(data.id) && !filters.match(data)) return;
    if (own.has(data.id) && isOver(data)) announce(data);
    store.put(data);
  } else if (name === "deleted") store.remove(data.id);
  else store.tell(name, data);
}

/** The events have (re)connected: read the first page, and update the predictions further down. */
async function refresh() {
  const read = await gallery.load({ keeping: !isFirstReady });
  if (read === null) return;
  isFirstReady = false;
  for (const id of store.ids.filter((each) => !read.has(each) && !isOver(store.get(each)))) {
    try {
      store.put(await get(`v1/predictions/${id}`));
    } catch (error) {
      if (error.status === 404) store.remove(id);
    }
  }
}

function announce(prediction) {
  own.delete(prediction.id);
  const words = { succeeded: "announce.succeeded", failed: "announce.failed", canceled: "announce.canceled" };
  $("announcements").textContent = t(words[prediction.status], { prompt: prediction.input?.prompt ?? "" });
}
