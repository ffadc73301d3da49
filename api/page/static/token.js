// Asking for the token, where the API needs one.
import { onUnauthorized, setToken, token } from "./api.js";

/** Wire the dialog. `onChange` is called with a new token; whether it is good, the next request says. */
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
