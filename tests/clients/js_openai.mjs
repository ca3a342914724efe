// The official JavaScript SDK of OpenAI against hearth's /v1/responses: what its own stream helpers insist on.
// Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.

import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

const { HEARTH_URL, HEARTH_KEY: apiKey } = process.env;
const client = new OpenAI({ baseURL: `${HEARTH_URL}/v1`, apiKey, maxRetries: 0 });
const base = { model: "tiny-chat", input: "Say something.", max_output_tokens: 24, temperature: 0 };
const parameters = {
  type: "object",
  properties: { place: { type: "string", maxLength: 12 }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["place", "days"],
  additionalProperties: false,
};
const forced = {
  ...base, model: "tiny-tool", max_output_tokens: 300, tools: [{ type: "function", name: "get_weather", strict: true, parameters }],
  tool_choice: "required", parallel_tool_calls: false,
};
const output = (response) => response.output.map(({ id, call_id, parsed_arguments, ...item }) => {
  const content = item.content?.map(({ parsed, ...part }) => part);
  return content ? { ...item, content } : item;
});

for (const [name, body] of Object.entries({ text: base, call: forced, thought: { ...base, model: "tiny-think", max_output_tokens: 64 } })) {
  test(`a stream is the answer: ${name}`, async () => {
    const stream = client.responses.stream(body);
    let last;
    for await (const event of stream) last = event;
    const whole = await client.responses.create(body);
    assert.deepEqual(output(last.response), output(whole));
    // What the SDK itself put together from the pieces.
    assert.deepEqual(output(await stream.finalResponse()), output(whole));
    assert.deepEqual(last.response.usage.output_tokens, whole.usage.output_tokens);
  });
}

test("a conversation goes on", async () => {
  const first = await client.responses.create(base);
  const second = await client.responses.create({ ...base, input: "And then?", previous_response_id: first.id });
  const items = await client.responses.inputItems.list(second.id, { order: "asc" });
  assert.equal(items.data.length, 3);
  assert.equal((await client.responses.retrieve(second.id)).id, second.id);
  await client.responses.delete(second.id);
  await assert.rejects(client.responses.retrieve(second.id), OpenAI.NotFoundError);
});

test("a count is the prompt's", async () => {
  const { input_tokens } = await client.responses.inputTokens.count({ model: "tiny-chat", input: base.input });
  assert.equal(input_tokens, (await client.responses.create(base)).usage.input_tokens);
});

test("errors have their classes", async () => {
  await assert.rejects(client.responses.create({ ...base, model: "nowhere" }), OpenAI.NotFoundError);
  await assert.rejects(client.responses.create({ ...base, stream: true, input: [{ type: "banana" }] }), OpenAI.BadRequestError);
});
