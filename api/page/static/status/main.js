// The operator's view: reads /v1/status every few seconds while it is visible, and shows it section by section.
import { ApiError, get, onUnauthorized, send } from "../api.js";
import { h } from "../dom.js";
import { initPreferences } from "../preferences.js";
import { say } from "../problem.js";
import { initToken } from "../token.js";
import { onLanguage, t, translate } from "../words.js";
import { health } from "./health.js";
import { models } from "./models.js";
import { system } from "./system.js";
import { usage } from "./usage.js";
import { webhooks } from "./webhooks.js";
import { failures, workers } from "./workers.js";

const AGAIN_AFTER_MS = 3000;

const $ = (id) => document.getElementById(id);

// The data of each section. A section is rendered again only if its data has changed.
const SECTIONS = {
  health: (found) => health(found),
  models: (found) => models(found.models, period()),
  workers: (found) => workers(found.workers),
  failures: (found) => failures(found.failures),
  webhooks: (found) => webhooks(found.webhooks, period(), replay),
  usage: (found) => usage(found.usage),
  system: (found) => system(found.system, found.version),
};
const shown = new Map(); // section → what it shows, as text

let latest = null;
let timer = 0;

initPreferences({ language: $("language"), theme: $("theme") });
initToken({ dialog: $("token-dialog"), button: $("token-button"), onChange: read });
translate(document);
onLanguage(() => show());
onUnauthorized(() => deny(""));
for (const input of document.querySelectorAll("[name=period]")) input.addEventListener("change", () => show());
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : read()));
document.addEventListener("selectionchange", () => isReading() || show());
read();

const period = () => document.querySelector("[name=period]:checked").value;

async function read() {
  clearTimeout(timer);
  try {
    latest = await get("v1/status");
    $("offline").hidden = true;
    $("note").hidden = true;
    $("sections").hidden = false;
    show();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 403) deny(error.message);
    else if (error.status !== 401) $("offline").hidden = false;
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(read, AGAIN_AFTER_MS);
}

/** The token has no access: remove what was shown before. */
function deny(reason) {
  latest = null;
  shown.clear();
  $("sections").hidden = true;
  $("health").replaceChildren();
  $("note").hidden = !reason;
  $("note").replaceChildren(reason ? h("span", {}, reason) : "");
  if (reason) $("token-button").hidden = false;
}

/** Whether the user has selected text, for instance to copy it. It must not be replaced then. */
const isReading = () => getSelection()?.type === "Range" && $("sections").contains(getSelection().anchorNode);

function show() {
  if (latest === null || isReading()) return;
  for (const [name, make] of Object.entries(SECTIONS)) {
    const made = make(latest).filter(Boolean);
    const text = made.map((each) => each.outerHTML).join("");
    if (shown.get(name) === text) continue;
    shown.set(name, text);
    replace($(name), made);
  }
}

/** Replace the content of a section. The focus and the scroll positions of tables are kept. */
function replace(section, made) {
  const focused = section.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const lefts = Array.from(section.querySelectorAll(".scroll"), (each) => each.scrollLeft);
  section.replaceChildren(...made);
  section.querySelectorAll(".scroll").forEach((each, place) => (each.scrollLeft = lefts[place] ?? 0));
  if (focused) section.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

async function replay(id) {
  try {
    await send("POST", `v1/webhook_deliveries/${encodeURIComponent(id)}/replay`);
    $("announcements").textContent = t("status.replayed");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== 401) say(error.status === 0 ? t("error.unreachable") : error.message);
  }
  read();
}
