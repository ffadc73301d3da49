// A picture that was sent in a request. The prediction's input holds a description instead of its data, such as
// "data:image/png;base64,… (630 bytes, SHA-256 …)". The API accepts that in place of the picture
// as long as it stores the picture.
import { bytes, t } from "./words.js";

const DESCRIPTION = /^(?:data|form):(?:image\/)?([^;,]*)[^,]*,… \((\d+) bytes, SHA-256 [0-9a-f]{64}\)$/;

/** "PNG, 630 bytes" for a description; undefined for any other value. */
export function sentWords(value) {
  const [, type, size] = (typeof value === "string" && DESCRIPTION.exec(value)) || [];
  if (size === undefined) return undefined;
  return t("picture.sent", { type: type.toUpperCase().slice(0, 20), size: bytes(Number(size)) });
}

const OTHER_NAMES = { image: ["image_url"], mask: ["mask_url"], images: ["input_images", "image_urls"] };

/** The inputs of a prediction with its pictures under the names that forms have: a list for a model that takes several. */
export function withPictures(input) {
  const found = { ...input };
  for (const [name, others] of Object.entries(OTHER_NAMES)) found[name] ??= others.map((other) => input[other]).find(Boolean);
  const all = [found.images ?? found.image ?? []].flat();
  return { ...found, image: all[0], images: all };
}
