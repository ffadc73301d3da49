// What the unmodified client makes of the answers; prints what it got as JSON.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ apiKey: "any", baseURL: process.env.BASE_URL, maxRetries: 0 });

async function refusal(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { status: error.status, message: error.message, type: error.type, code: error.code, param: error.param };
  }
}

const said = {};
const answer = await client.images.generate({ model: "gpt-image-1", prompt: "a red circle", n: 2 });
const fetched = await Promise.all(answer.data.map(async ({ url }) => (await fetch(url)).arrayBuffer()));
said.same = answer.data.map(({ b64_json }, index) => b64_json === Buffer.from(fetched[index]).toString("base64"));
said.usage = answer.usage;

said.stream = [];
for await (const event of await client.images.generate({ prompt: "a red circle", stream: true })) {
  said.stream.push({ type: event.type, bytes: Buffer.from(event.b64_json, "base64").length });
}

const messages = [{ role: "user", content: "a red circle" }];
said.chat = await refusal(client.chat.completions.create({ model: "gpt-4o", messages }));
said.responses = await refusal(client.responses.create({ model: "gpt-4o", input: "a red circle" }));
said.embeddings = await refusal(client.embeddings.create({ model: "x", input: "a red circle" }));
said.unknown = await refusal(client.get("/nothing"));
const red = await toFile(Buffer.from(process.env.PICTURE, "base64"), "a.png", { type: "image/png" });
const clear = await toFile(Buffer.from(process.env.MASK, "base64"), "mask.png", { type: "image/png" });
const edited = await client.images.edit({ image: red, mask: clear, prompt: "an edit", n: 2 });
said.edited = edited.data.map(({ b64_json }) => Buffer.from(b64_json, "base64").length > 50);
said.edited_one_of_a_list = (await client.images.edit({ image: [red], prompt: "an edit of a list" })).data.length;
said.edited_several = await refusal(client.images.edit({ image: [red, red], prompt: "an edit of two" }));
const both = { model: "darkroom/slow", image: [red, red], prompt: "an edit of two" };
said.edited_from_two = (await client.images.edit(both)).usage.input_tokens_details.image_tokens;
said.edit_stream = [];
for await (const event of await client.images.edit({ image: red, prompt: "a streamed edit", stream: true })) {
  said.edit_stream.push(event.type);
}
said.varied = (await client.images.createVariation({ image: red })).data.length;
said.empty = await refusal(client.images.generate({ prompt: "" }));
console.log(JSON.stringify(said));
