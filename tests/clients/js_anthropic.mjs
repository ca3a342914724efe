// The official JavaScript SDK of Anthropic against hearth: what its own stream helpers insist on.
// Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.

import assert from "node:assert/strict";
import test from "node:test";

import Anthropic from "@anthropic-ai/sdk";

const { HEARTH_URL: baseURL, HEARTH_KEY: apiKey } = process.env;
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something." }];
const base = { model: "tiny-chat", max_tokens: 24, messages, temperature: 0 };
const tool = {
  name: "get_weather",
  input_schema: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    properties: { place: { type: "string", maxLength: 12 }, days: { type: "integer", minimum: 1, maximum: 9 } },
    required: ["place", "days"],
    additionalProperties: false,
  },
};
const forced = { ...base, model: "tiny-tool", max_tokens: 300, tools: [tool], tool_choice: { type: "any", disable_parallel_tool_use: true } };
const promptTokens = (usage) => usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens;
const content = (message) => message.content.map(({ id, ...block }) => block);

for (const [name, body] of Object.entries({ text: base, call: forced, thought: { ...base, model: "tiny-think", max_tokens: 64 } })) {
  test(`a stream is the answer: ${name}`, async () => {
    const stream = client.messages.stream(body);
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const streamed = await stream.finalMessage();
    const whole = await client.messages.create(body);
    assert.deepEqual(content(streamed), content(whole));
    assert.equal(streamed.stop_reason, whole.stop_reason);
    assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens);
    assert.equal(promptTokens(streamed.usage), promptTokens(whole.usage));
    assert.equal(text, streamed.content.filter((block) => block.type === "text").map((block) => block.text).join(""));
  });
}

test("a forced call and its result", async () => {
  const call = await client.messages.create(forced);
  assert.equal(call.stop_reason, "tool_use");
  const [block] = call.content;
  assert.deepEqual(Object.keys(block.input).sort(), ["days", "place"]);
  const result = { role: "user", content: [{ type: "tool_result", tool_use_id: block.id, content: "sunny" }] };
  const answer = await client.messages.create({
    ...forced, tool_choice: { type: "none" }, messages: [...messages, { role: "assistant", content: call.content }, result],
  });
  assert.equal(answer.content[0].type, "text");
});

test("a count is the prompt's", async () => {
  const { input_tokens } = await client.messages.countTokens({ model: "tiny-chat", messages, system: "Be brief." });
  const { usage } = await client.messages.create({ ...base, system: "Be brief." });
  assert.equal(input_tokens, promptTokens(usage));
});

test("errors have their classes", async () => {
  await assert.rejects(client.messages.create({ ...base, model: "nowhere" }), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create({ ...base, stream: true, messages: [] }), Anthropic.BadRequestError);
  await assert.rejects(new Anthropic({ baseURL, apiKey: "wrong", maxRetries: 0 }).messages.create(base), Anthropic.AuthenticationError);
});

test("a client that leaves frees its place", async () => {
  for (let round = 0; round < 8; round++) {
    const stream = client.messages.stream({ ...base, max_tokens: 20_000, temperature: 1 });
    await new Promise((resolve) => stream.once("text", resolve));
    stream.abort();
    await stream.done().catch(() => {});
  }
  assert.equal((await client.messages.create(base)).type, "message");
});

test("the list of models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("tiny-chat"));
});
