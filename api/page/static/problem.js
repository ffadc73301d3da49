// An error message, shown above everything else for a while.
const SAID_FOR_MS = 10_000;

const popover = document.getElementById("problem");
let silence = 0;

/** Show a message; "" hides it. */
export function say(words) {
  clearTimeout(silence);
  document.getElementById("problem-words").textContent = words;
  popover.togglePopover(words !== "");
  if (words) silence = setTimeout(() => say(""), SAID_FOR_MS);
}

document.getElementById("problem-close").addEventListener("click", () => say(""));
