// Every way in which the unmodified client is used; prints what it got as JSON.
import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";

const options = { auth: "r8_any", baseUrl: process.env.BASE_URL };
const replicate = new Replicate(options);
const input = { prompt: "a red circle", seed: 7 };
const model = "darkroom/blank";

async function statusOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.response ? error.response.status : String(error);
  }
}

if (process.argv[2] === "validate") {
  const [body, headers] = [process.argv[3], JSON.parse(process.argv[4])];
  const secret = await replicate.webhooks.default.secret.get();
  const check = (text) => validateWebhook({ headers, body: text }, secret.key);
  console.log(
    JSON.stringify({ genuine: await check(body), tampered: await check(body.replace("succeeded", "failed")) }),
  );
  process.exit(0);
}

const said = {};
said.run = await replicate.run(model, { input });
const found = await replicate.models.get("darkroom", "blank");
said.run_by_version = (await replicate.run(`${model}:${found.latest_version.id}`, { input })).length;

const red = new Blob([Buffer.from(process.env.PICTURE, "base64")], { type: "image/png" });
said.picture_run = (await replicate.run(model, { input: { ...input, image: red } })).length;
// In 1.4.0 "data-uri" sends the client itself as the input, so uploading is what can be tried.
const upload = new Replicate({ ...options, fileEncodingStrategy: "upload" });
const uploaded = await upload.predictions.create({ model, input: { prompt: "an uploaded blob", image: red } });
said.picture_uploaded = uploaded.input.image;
const several = { prompt: "uploaded blobs", input_images: [red, red], num_inference_steps: 1 };
said.pictures_run = (await upload.run("darkroom/slow", { input: several })).length;
const file = await replicate.files.create(red, { project: "x" });
said.file = { size: file.size, metadata: file.metadata, listed: (await replicate.files.list()).results.length > 0 };
said.file.read = (await replicate.files.get(file.id)).id === file.id;
said.file.deleted = await replicate.files.delete(file.id);

const statuses = [];
const progress = [];
await replicate.run("darkroom/slow", { input, wait: { mode: "poll", interval: 100 } }, (prediction) => {
  statuses.push(prediction.status);
  const parsed = parseProgressFromLogs(prediction);
  if (parsed) progress.push(parsed.percentage);
});
said.polled = { statuses, progress };

const events = [];
for await (const { event, data } of replicate.stream("darkroom/slow", { input })) {
  events.push(event);
  if (event === "output") {
    const blob = await data.blob();
    said.stream = { bytes: blob.size, type: blob.type };
  }
}
said.stream = { ...said.stream, events };

const preferred = await replicate.predictions.create({ model, input: { ...input, cache: false }, wait: 30 });
said.preferred = preferred.status;
const polled = await replicate.predictions.create({ model: "darkroom/slow", input: { ...input, cache: false } });
said.waited = [polled.status, (await replicate.wait(polled, { interval: 100 })).status];

const created = await replicate.predictions.create({ model: "darkroom/nobody", input });
said.created = created.status;
said.canceled = (await replicate.predictions.cancel(created.id)).status;
said.read = (await replicate.predictions.get(created.id)).status;

await Promise.all(
  Array.from({ length: 101 }, () => replicate.predictions.create({ model: "darkroom/nobody", input })),
);
const ids = [];
said.pages = 0;
for await (const page of replicate.paginate(replicate.predictions.list)) {
  said.pages += 1;
  ids.push(...page.map((prediction) => prediction.id));
}
said.listed = ids.length;
said.distinct = new Set(ids).size;

said.models = (await replicate.models.list()).results.length;
said.model = `${found.owner}/${found.name}`;
said.versions = (await replicate.models.versions.list("darkroom", "blank")).results.length;
said.account = (await replicate.accounts.current()).username;
said.errors = {
  missing: await statusOf(replicate.predictions.get("nothing")),
  invalid: await statusOf(replicate.run(model, { input: { prompt: "x", width: 65 } })),
};
await replicate.predictions.create({
  model,
  input,
  webhook: process.env.RECEIVER,
  webhook_events_filter: ["completed"],
});
console.log(JSON.stringify(said));
