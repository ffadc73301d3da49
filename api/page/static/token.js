// The dialog that asks for a token if the API requires one.
import { onUnauthorized, setToken, token } from "./api.js";

/** Set up the dialog. `onChange` is called with a new token, which is not checked before the next request. */
export function initToken({ dialog, button, onChange }) {
  const form = dialog.querySelector("form");
  const input = form.querySelector("input");
  const problem = form.querySelector("[role=alert]");

  function ask(detail = "") {
    button.hidden = false;
    problem.textContent = detail;
    if (dialog.open) return;
    input.value = token();
    dialog.showModal();
    input.select();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(input.value.trim());
    dialog.close();
    onChange();
  });
  button.addEventListener("click", () => ask());
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  button.hidden = token() === "";
  onUnauthorized((error) => ask(token() ? error.message : ""));
}
