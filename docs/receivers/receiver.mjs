// A receiver of Darkroom's webhooks: verify, remember, act once, answer fast. Node 18 or later, no packages.
//
//     WEBHOOK_SECRET=whsec_… PORT=9000 node receiver.mjs
//
// A delivery may arrive more than once (a courier died before it could note your answer), always with the same
// webhook-id and the same body. Here what was handled is one line of a file, appended before the answer; in your
// application it is a row, written in the same transaction as what follows from it.

import { createHmac, timingSafeEqual } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const TOLERANCE_S = 300;
const FILE = process.env.DATABASE ?? "receiver.jsonl";

const handled = new Set(
  existsSync(FILE)
    ? readFileSync(FILE, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line).webhook_id)
    : [],
);

// Standard Webhooks: HMAC-SHA256 over id.timestamp.body, with any of the signatures that are given.
export function verify(secret, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const sentAt = headers["webhook-timestamp"] ?? "";
  if (!id || !/^\d+$/.test(sentAt) || Math.abs(Date.now() / 1000 - Number(sentAt)) > TOLERANCE_S) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${sentAt}.`).update(body).digest();
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const [version, given] = signature.split(",", 2);
    const bytes = Buffer.from(given ?? "", "base64");
    return version === "v1" && bytes.length === expected.length && timingSafeEqual(bytes, expected);
  });
}

function handleOnce(id, prediction) {
  if (handled.has(id)) return false;
  const { id: prediction_id, status, output } = prediction;
  appendFileSync(FILE, JSON.stringify({ webhook_id: id, prediction_id, status, output }) + "\n");
  handled.add(id);
  return true;
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    if (request.method !== "POST" || !verify(process.env.WEBHOOK_SECRET, request.headers, body)) {
      response.writeHead(401).end();
      return;
    }
    const isNew = handleOnce(request.headers["webhook-id"], JSON.parse(body.toString("utf8")));
    console.log(isNew ? "handled" : "seen before", request.headers["webhook-id"]);
    response.writeHead(204).end();
  });
});

server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
