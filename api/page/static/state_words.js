// The text for a prediction's state, on its card and in the full view.
import { duration, t } from "./words.js";

/** A line with its state: its place in the queue, loading, its step, or how it ended. */
export function stateWords(prediction, live) {
  switch (prediction.status) {
    case "starting":
      return waitingWords(live.waiting);
    case "processing":
      return live.steps ? t("state.step", { step: live.step, steps: live.steps }) : t("state.drawing");
    case "succeeded":
      return prediction.data_removed ? t("state.removed") : t("state.succeeded");
    case "failed":
      return t("state.failed");
    default:
      return prediction.error ? t("state.expired") : t("state.canceled");
  }
}

function waitingWords(waiting) {
  if (!waiting) return t("state.waiting");
  if (waiting.isLoading) return `${t("state.loading")}${until(waiting)}`;
  const place = waiting.position === 1 ? t("state.next") : t("state.place", { place: waiting.position });
  return `${place}${until(waiting)}`;
}

/** A second line, "in about 12 s", counted from now; empty if there is no estimate. */
function until(waiting) {
  if (!waiting.estimated_start) return "";
  return `\n${duration(Math.max(0, (new Date(waiting.estimated_start) - Date.now()) / 1000))}`;
}

/** How far the drawing is, from 0 to 1. */
export const share = (live) => (live.steps ? live.step / live.steps : 0);
