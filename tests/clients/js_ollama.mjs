// The official JavaScript SDK of Ollama against hearth's /api.
// Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.

import assert from "node:assert/strict";
import test from "node:test";

import { Ollama } from "ollama";

const { HEARTH_URL: host, HEARTH_KEY: key } = process.env;
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });
const messages = [{ role: "user", content: "Say something." }];
const options = { temperature: 0, num_predict: 24 };
const base = { model: "tiny-chat", messages, options };

for (const model of ["tiny-chat", "tiny-think"]) {
  test(`a stream is the answer: ${model}`, async () => {
    const whole = await client.chat({ ...base, model });
    let [text, thinking, last] = ["", "", null];
    for await (const line of await client.chat({ ...base, model, stream: true })) {
      text += line.message.content;
      thinking += line.message.thinking ?? "";
      last = line;
    }
    assert.equal(text, whole.message.content);
    assert.equal(thinking, whole.message.thinking ?? "");
    assert.ok(last.done && last.done_reason === whole.done_reason);
    assert.equal(last.eval_count, whole.eval_count);
  });
}

test("a prompt and its context", async () => {
  const first = await client.generate({ model: "tiny-chat", prompt: "Say something.", options });
  let text = "";
  for await (const line of await client.generate({ model: "tiny-chat", prompt: "Say something.", options, stream: true })) text += line.response;
  assert.equal(text, first.response);
  const second = await client.generate({ model: "tiny-chat", prompt: "And then?", context: first.context, options });
  assert.deepEqual(second.context.slice(0, first.context.length), first.context);
});

test("a schema binds the answer", async () => {
  const format = { type: "object", properties: { digit: { type: "integer", minimum: 0, maximum: 9 } }, required: ["digit"] };
  const { message } = await client.chat({ ...base, format, options: { ...options, num_predict: 200 } });
  assert.ok(JSON.parse(message.content).digit in [...Array(10).keys()]);
});

test("models", async () => {
  const { models } = await client.list();
  assert.ok(models.some(({ name }) => name === "tiny-chat"));
  assert.equal((await client.show({ model: "tiny-chat" })).details.format, "gguf");
  assert.ok((await client.ps()).models.every(({ size }) => size > 0));
  assert.match((await client.version()).version, /^0\.\d+\.\d+$/);
});

test("vectors", async () => {
  const { embeddings } = await client.embed({ model: "tiny-chat", input: ["one", "two"] });
  assert.equal(embeddings.length, 2);
  assert.ok(Math.abs(Math.hypot(...embeddings[0]) - 1) < 1e-5);
  const { embedding } = await client.embeddings({ model: "tiny-chat", prompt: "two" });
  assert.deepEqual(embedding, embeddings[1]);
});

test("a stream that is left ends", async () => {
  const stream = await client.chat({ ...base, options: { num_predict: 4000 }, stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream) stream.abort();
  }, { name: "AbortError" });
  assert.ok((await client.chat({ ...base, options: { num_predict: 1 } })).done);
});

test("errors", async () => {
  await assert.rejects(client.chat({ ...base, model: "nowhere" }), { name: "ResponseError", status_code: 404 });
  await assert.rejects(client.chat({ ...base, think: true }), /does not support thinking/);
  await assert.rejects(client.delete({ model: "tiny-chat" }), { status_code: 403 });
});
