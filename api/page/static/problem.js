// What went wrong, said above everything else that is shown, for a while.
const SAID_FOR_MS = 10_000;

const popover = document.getElementById("problem");
let silence = 0;

/** Say it; "" takes back what was said. */
export function say(words) {
  clearTimeout(silence);
  document.getElementById("problem-words").textContent = words;
  popover.togglePopover(words !== "");
  if (words) silence = setTimeout(() => say(""), SAID_FOR_MS);
}

document.getElementById("problem-close").addEventListener("click", () => say(""));
