// Everything that happens to the caller's predictions, over one WebSocket. (Browsers limit other connections to six for
// all tabs together.)
import { base, token } from "./api.js";

const AGAIN_AFTER_MS = 500;
const AGAIN_AFTER_AT_MOST_MS = 15_000;

/**
 * Connect, and connect again for ever. `onEvent(name, data)` gets each event, `onState(isConnected)` each change.
 * Returns a function that reconnects at once. Call it when the token has changed.
 */
export function follow({ onEvent, onState }) {
  let socket = null;
  let wait = AGAIN_AFTER_MS;
  let timer = null;

  function connect() {
    clearTimeout(timer);
    const url = new URL("v1/events/ws", base);
    url.protocol = url.protocol.replace("http", "ws");
    const offered = token() ? ["darkroom", `darkroom.token.${token()}`] : ["darkroom"];
    try {
      socket = new WebSocket(url, offered);
    } catch {
      return; // a token with characters that no token has: the API says so
    }
    const mine = socket;
    mine.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.event === "ready") {
        wait = AGAIN_AFTER_MS;
        onState(true);
      }
      onEvent(message.event, message.data);
    };
    mine.onclose = () => {
      if (mine !== socket) return;
      onState(false);
      timer = setTimeout(connect, wait * (0.5 + Math.random() / 2));
      wait = Math.min(2 * wait, AGAIN_AFTER_AT_MOST_MS);
    };
  }

  function reconnect() {
    const old = socket;
    socket = null;
    old?.close();
    wait = AGAIN_AFTER_MS;
    connect();
  }

  window.addEventListener("online", reconnect);
  connect();
  return reconnect;
}
