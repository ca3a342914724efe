// The official JavaScript SDK of OpenAI against hearth's chat, completions, embeddings and models: what its own helpers insist on.
// Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.

import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

const { HEARTH_URL, HEARTH_KEY: apiKey } = process.env;
const client = new OpenAI({ baseURL: `${HEARTH_URL}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something." }];
const base = { model: "tiny-chat", messages, max_tokens: 24, temperature: 0 };
const parameters = {
  type: "object",
  properties: { place: { type: "string", maxLength: 12 }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["place", "days"],
  additionalProperties: false,
};
const tool = { type: "function", function: { name: "get_weather", parameters, strict: true } };
const forced = { ...base, model: "tiny-tool", max_tokens: 300, tools: [tool], tool_choice: "required", parallel_tool_calls: false };
const message = ({ content, tool_calls }) => ({
  content: content ?? "",
  calls: (tool_calls ?? []).map(({ function: { name, arguments: text } }) => ({ name, text })),
});

for (const [name, body] of Object.entries({ text: base, call: forced, thought: { ...base, model: "tiny-think", max_tokens: 64 } })) {
  test(`a stream is the answer: ${name}`, async () => {
    const whole = await client.chat.completions.create(body);
    const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
    // A field the SDK does not know: it keeps the last piece only.
    let reasoning = "";
    stream.on("chunk", ({ choices: [choice] }) => (reasoning += choice?.delta.reasoning_content ?? ""));
    const streamed = await stream.finalChatCompletion();
    assert.deepEqual(message(streamed.choices[0].message), message(whole.choices[0].message));
    assert.equal(reasoning, whole.choices[0].message.reasoning_content ?? "");
    assert.equal(streamed.choices[0].finish_reason, whole.choices[0].finish_reason);
    assert.equal((await stream.totalUsage()).completion_tokens, whole.usage.completion_tokens);
  });
}

test("a schema binds the answer", async () => {
  const schema = { type: "object", properties: { digit: { type: "integer", minimum: 0, maximum: 9 } }, required: ["digit"], additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "digit", strict: true, schema } };
  const answer = await client.chat.completions.parse({ ...base, max_tokens: 200, response_format });
  assert.ok(answer.choices[0].message.parsed.digit in [...Array(10).keys()]);
});

test("the loop of tools", async () => {
  const seen = [];
  const run = (place) => (seen.push(place), "sunny");
  const runner = client.chat.completions.runTools(
    { ...forced, max_tokens: 300, tools: [{ ...tool, function: { ...tool.function, function: run, parse: JSON.parse } }] },
    { maxChatCompletions: 2 },
  );
  await runner.done().catch((error) => assert.match(String(error), /max|length/i));
  assert.ok(seen.length >= 1);
  assert.deepEqual(Object.keys(seen[0]).sort(), ["days", "place"]);
});

test("completions, embeddings, models", async () => {
  const completion = await client.completions.create({ model: "tiny-chat", prompt: "The harbour", max_tokens: 8, temperature: 0 });
  let text = "";
  for await (const piece of await client.completions.create({ model: "tiny-chat", prompt: "The harbour", max_tokens: 8, temperature: 0, stream: true })) {
    text += piece.choices[0]?.text ?? "";
  }
  assert.equal(text, completion.choices[0].text);
  const { data } = await client.embeddings.create({ model: "tiny-chat", input: ["one", "two"] });
  assert.deepEqual(data.map(({ index }) => index), [0, 1]);
  assert.ok(Math.abs(Math.hypot(...data[0].embedding) - 1) < 1e-5);
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("tiny-chat"));
  assert.equal((await client.models.retrieve("tiny-chat")).id, "tiny-chat");
});

test("what turns out late is in the last chunk", async () => {
  const cut = { ...forced, max_tokens: 6 };
  const whole = await client.chat.completions.create(cut);
  assert.match(whole.hearth.notices[0], /call/);
  const streamed = await client.chat.completions.stream(cut).finalChatCompletion().catch((error) => error);
  // A call that was cut is an error to this helper, whatever else the chunk says.
  assert.ok(streamed.hearth || /length limit/.test(streamed), String(streamed));
  const told = [];
  for await (const chunk of await client.chat.completions.create({ ...cut, stream: true })) if (chunk.hearth) told.push(chunk.hearth);
  assert.deepEqual(told, [whole.hearth]);
});

test("a stream that is left ends", async () => {
  const stream = await client.chat.completions.create({ ...base, max_tokens: 4000, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  assert.ok(await client.chat.completions.create({ ...base, max_tokens: 1 }));
});

test("errors have their classes", async () => {
  await assert.rejects(client.chat.completions.create({ ...base, model: "nowhere" }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...base, stream: true, temperature: 9 }), OpenAI.BadRequestError);
  const stranger = new OpenAI({ baseURL: `${HEARTH_URL}/v1`, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create(base), OpenAI.AuthenticationError);
});
