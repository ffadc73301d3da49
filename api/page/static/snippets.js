// The same request as a command or a program, to be copied.
import { base, token } from "./api.js";

const TOKEN = "dr_…"; // never the real one: snippets are pasted into chats

const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** A value as Python writes it. */
export function python(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

export const LANGUAGES = {
  curl({ model, input }) {
    const authorization = token() ? `  -H 'Authorization: Bearer ${TOKEN}' \\\n` : "";
    return (
      `curl ${new URL("v1/predictions", base)} \\\n${authorization}` +
      `  -H 'Content-Type: application/json' -H 'Prefer: wait' \\\n  -d ${quoted(JSON.stringify({ model, input }))}`
    );
  },
  Python({ model, input }) {
    return (
      `import replicate\n\nclient = replicate.Client(api_token="${TOKEN}", base_url="${root()}")\n` +
      `print(client.run(${JSON.stringify(model)}, input=${python(input)}))`
    );
  },
  JavaScript({ model, input }) {
    return (
      `import Replicate from "replicate";\n\nconst replicate = new Replicate({ auth: "${TOKEN}", baseUrl: "${root()}/v1" });\n` +
      `console.log(await replicate.run(${JSON.stringify(model)}, { input: ${JSON.stringify(input)} }));`
    );
  },
};

const root = () => base.href.replace(/\/$/, "");

/** Copy text to the clipboard, even if the page isn't served over HTTPS. Returns whether it worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const selection = getSelection();
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    selection?.removeAllRanges();
    return done;
  }
}
