"""The official Python SDK of Anthropic against hearth: every must of the dialect that the SDK can show.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.
"""

import asyncio
import json
import os
import unittest

import anthropic

URL, KEY = os.environ["HEARTH_URL"], os.environ["HEARTH_KEY"]
client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
LONG = "Tell me about the harbour and its lights. " * 30
USER = [{"role": "user", "content": "Say something."}]
TOOL = {
    "name": "get_weather",
    "description": "Weather of a place.",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"place": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["place", "days"],
        "additionalProperties": False,
    },
}


def arguments(temperature=0, **more):
    """What create() and stream() take; the newest SDK has no argument for the temperature."""
    return {"model": "tiny-chat", "max_tokens": 24, "messages": USER, "extra_body": {"temperature": temperature}, **more}


def create(**more):
    return client.messages.create(**arguments(**more))


def stream(**more):
    with client.messages.stream(**arguments(**more)) as s:
        events = list(s)
        return events, s.get_final_message()


def prompt_tokens(usage):
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def content(message):
    """The content without what is made anew for each answer."""
    return [{k: v for k, v in block.model_dump().items() if k != "id"} for block in message.content]


class Messages(unittest.TestCase):
    def test_an_answer(self):
        message = create()
        self.assertTrue(message.id.startswith("msg_"))
        self.assertEqual((message.type, message.role, message.model), ("message", "assistant", "tiny-chat"))
        self.assertEqual([block.type for block in message.content], ["text"])
        self.assertIn(message.stop_reason, ("end_turn", "max_tokens"))
        self.assertIsNone(message.stop_sequence)
        self.assertLessEqual(message.usage.output_tokens, 24)

    def test_a_stream_is_the_answer(self):
        events, message = stream()
        whole = create()
        self.assertEqual(content(message), content(whole))
        self.assertEqual(message.stop_reason, whole.stop_reason)
        self.assertEqual(message.usage.output_tokens, whole.usage.output_tokens)
        self.assertEqual(prompt_tokens(message.usage), prompt_tokens(whole.usage))
        kinds = [event.type for event in events if event.type not in ("text", "ping")]
        self.assertEqual((kinds[0], kinds[-1]), ("message_start", "message_stop"))
        start = events[0].message
        self.assertEqual((start.content, start.stop_reason), ([], None))
        self.assertEqual(prompt_tokens(start.usage), prompt_tokens(whole.usage))

    def test_the_raw_stream_has_the_order_of_the_dialect(self):
        raw = create(max_tokens=8, stream=True)
        open_index, next_index = None, 0
        for event in raw:
            if event.type == "content_block_start":
                self.assertIsNone(open_index)
                self.assertEqual(event.index, next_index)
                open_index = event.index
            elif event.type == "content_block_delta":
                self.assertEqual(event.index, open_index)
            elif event.type == "content_block_stop":
                self.assertEqual(event.index, open_index)
                open_index, next_index = None, next_index + 1
        self.assertGreaterEqual(next_index, 1)

    def test_the_limit(self):
        message = create(max_tokens=1)
        self.assertEqual((message.stop_reason, message.usage.output_tokens), ("max_tokens", 1))

    def test_a_stop_sequence(self):
        text = create().content[0].text
        stop = text[len(text) // 2 :][:3]
        message = create(stop_sequences=["never seen", stop])
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
        self.assertNotIn(stop, message.content[0].text)
        self.assertTrue(text.startswith(message.content[0].text))
        _, streamed = stream(stop_sequences=["never seen", stop])
        self.assertEqual(content(streamed), content(message))
        self.assertEqual((streamed.stop_reason, streamed.stop_sequence), ("stop_sequence", stop))

    def test_system_in_two_forms_is_the_same_prompt(self):
        blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        one, two = create(system="Be brief."), create(system=blocks)
        self.assertEqual(content(one), content(two))
        self.assertEqual(prompt_tokens(one.usage), prompt_tokens(two.usage))

    def test_counting(self):
        body = {"system": "Be brief.", "messages": [{"role": "user", "content": LONG}], "tools": [TOOL]}
        count = client.messages.count_tokens(model="tiny-chat", **body).input_tokens
        self.assertEqual(count, prompt_tokens(create(**body).usage))

    def test_a_second_time_is_read_from_the_cache(self):
        messages = [{"role": "user", "content": "Once. " + LONG}]
        first, second = create(messages=messages), create(messages=messages)
        self.assertGreater(second.usage.cache_read_input_tokens, 0)
        self.assertEqual(prompt_tokens(first.usage), prompt_tokens(second.usage))
        self.assertEqual(content(first), content(second))

    def test_a_last_message_of_the_assistant_is_continued(self):
        whole = create().content[0].text
        begun = [*USER, {"role": "assistant", "content": whole[:5]}]
        self.assertTrue((whole[:5] + create(messages=begun, max_tokens=3).content[0].text)[:6].startswith(whole[:5]))

    def test_a_schema_binds_the_answer(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"], "additionalProperties": False}
        for seedless in range(3):
            message = create(output_config={"format": {"type": "json_schema", "schema": schema}}, max_tokens=200, temperature=1)
            self.assertEqual(message.stop_reason, "end_turn")
            value = json.loads(message.content[0].text)
            self.assertEqual(list(value), ["a"])
            self.assertIn(value["a"], range(10))

    def test_headers_and_notices(self):
        raw = client.messages.with_raw_response.create(model="tiny-chat", max_tokens=1, messages=USER, metadata={"user_id": "u"})
        self.assertTrue(raw.headers["request-id"].startswith("req_"))
        self.assertIn("ignored=metadata", raw.headers["hearth-notice"])

    def test_the_beta_client(self):
        message = client.beta.messages.create(
            model="tiny-chat", max_tokens=4, messages=USER, betas=["context-management-2025-06-27", "interleaved-thinking-2025-05-14"]
        )
        self.assertEqual(message.type, "message")

    def test_the_asynchronous_client(self):
        async def ask():
            async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY) as many:
                asks = [many.messages.create(**arguments(max_tokens=8)) for _ in range(4)]
                return await asyncio.gather(*asks)

        answers = [content(message) for message in asyncio.run(ask())]
        self.assertEqual(answers, [answers[0]] * 4)


class Tools(unittest.TestCase):
    def check(self, block):
        self.assertEqual((block.type, block.name), ("tool_use", "get_weather"))
        self.assertTrue(block.id.startswith("toolu_"))
        self.assertEqual(set(block.input), {"place", "days"})
        self.assertIsInstance(block.input["place"], str)
        self.assertIn(block.input["days"], range(1, 10))

    def test_a_forced_call(self):
        for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
            choice["disable_parallel_tool_use"] = True
            message = create(model="tiny-tool", tools=[TOOL], tool_choice=choice, max_tokens=300)
            self.assertEqual(message.stop_reason, "tool_use")
            self.assertEqual(len(message.content), 1)
            self.check(message.content[0])

    def test_a_streamed_call_is_the_call(self):
        more = {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "max_tokens": 300}
        events, message = stream(model="tiny-tool", **more)
        self.check(message.content[0])
        self.assertEqual(content(message), content(create(model="tiny-tool", **more)))
        pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
        self.assertEqual(json.loads("".join(pieces)), message.content[0].input)

    def test_a_result_goes_back(self):
        call = create(model="tiny-tool", tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True}, max_tokens=300)
        for result in ("sunny", [{"type": "text", "text": "sunny"}], []):
            answer = [{"type": "tool_result", "tool_use_id": call.content[0].id, "content": result}, {"type": "text", "text": "So?"}]
            messages = [*USER, {"role": "assistant", "content": call.content}, {"role": "user", "content": answer}]
            message = create(model="tiny-tool", tools=[TOOL], tool_choice={"type": "none"}, messages=messages)
            self.assertEqual([block.type for block in message.content], ["text"])
            # A history may hold calls and results where no tools are offered any more.
            self.assertEqual([block.type for block in create(model="tiny-tool", messages=messages).content], ["text"])

    def test_several_calls_are_blocks_of_their_own(self):
        for seed in range(3):
            message = create(model="tiny-tool", tools=[TOOL], tool_choice={"type": "any"}, max_tokens=400, temperature=1)
            calls = message.content if message.stop_reason == "tool_use" else message.content[:-1]
            for call in calls:
                self.check(call)
            self.assertEqual(len({call.id for call in calls}), len(calls))
            self.assertIn(message.stop_reason, ("tool_use", "max_tokens"))

    def test_tools_of_the_provider_are_left_out_and_named(self):
        raw = client.messages.with_raw_response.create(
            model="tiny-chat", max_tokens=1, messages=USER, tools=[{"type": "web_search_20250305", "name": "web_search"}]
        )
        self.assertIn("dropped-tool=web_search_20250305", raw.headers["hearth-notice"])


class Thinking(unittest.TestCase):
    MORE = {"model": "tiny-think", "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 64, "temperature": 1}

    def test_a_thought_comes_first_and_goes_back(self):
        message = create(**self.MORE)
        thought = message.content[0]
        self.assertEqual(thought.type, "thinking")
        self.assertTrue(thought.thinking and thought.signature)
        messages = [*USER, {"role": "assistant", "content": message.content}, {"role": "user", "content": "Go on."}]
        self.assertEqual(create(**{**self.MORE, "messages": messages}).content[0].type, "thinking")

    def test_a_streamed_thought_is_the_thought(self):
        more = {**self.MORE, "temperature": 0}
        events, message = stream(**more)
        self.assertEqual(content(message), content(create(**more)))
        deltas = [event.delta.type for event in events if event.type == "content_block_delta" and event.index == 0]
        self.assertEqual(deltas[-1], "signature_delta")
        self.assertEqual(set(deltas[:-1]), {"thinking_delta"})

    def test_thinking_is_no_error_without(self):
        for thinking in ({"type": "adaptive"}, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 2048}):
            self.assertEqual(create(model="tiny-chat", thinking=thinking, max_tokens=4).content[0].type, "text")

    def test_a_budget_closes_the_thought(self):
        for _ in range(10):
            events, message = stream(**{**self.MORE, "max_tokens": 1200})
            # A model without training may end the whole answer, or its thought, before that.
            if message.usage.output_tokens > 1100:
                break
        self.assertEqual([block.type for block in message.content], ["thinking", "text"])
        pieces = [event for event in events if event.type == "content_block_delta" and event.delta.type == "thinking_delta"]
        self.assertLessEqual(len(pieces), 1024 + 8)

    def test_a_schema_binds_the_answer_and_not_the_thought(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"], "additionalProperties": False}
        config = {"format": {"type": "json_schema", "schema": schema}}
        for temperature in (0, 1):
            message = create(**{**self.MORE, "max_tokens": 1400, "temperature": temperature}, output_config=config)
            self.assertEqual((message.stop_reason, message.content[0].type), ("end_turn", "thinking"))
            self.assertIn(json.loads(message.content[1].text)["a"], range(10))

    def test_disabled_is_off(self):
        self.assertEqual({block.type for block in create(model="tiny-think", thinking={"type": "disabled"}).content}, {"text"})


class Errors(unittest.TestCase):
    def raises(self, kind, word, **more):
        with self.assertRaises(kind) as caught:
            create(**more)
        body = caught.exception.body
        self.assertEqual((body["type"], body["error"]["type"]), ("error", word))
        self.assertTrue(body["request_id"].startswith("req_"))
        return body["error"]["message"]

    def test_each_has_its_class(self):
        self.assertIn("nowhere", self.raises(anthropic.NotFoundError, "not_found_error", model="nowhere"))
        bad = anthropic.BadRequestError
        self.raises(bad, "invalid_request_error", messages=[])
        self.raises(bad, "invalid_request_error", max_tokens=0)
        self.raises(bad, "invalid_request_error", temperature=1.5)
        self.raises(bad, "invalid_request_error", messages=[{"role": "user", "content": [{"type": "banana"}]}])
        self.raises(bad, "invalid_request_error", tools=[{"name": "f"}])
        self.raises(bad, "invalid_request_error", tools=[TOOL], tool_choice={"type": "tool", "name": "other"})
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
        self.raises(bad, "invalid_request_error", messages=[{"role": "user", "content": [image]}])

    def test_an_error_before_the_first_byte_is_no_stream(self):
        self.raises(anthropic.NotFoundError, "not_found_error", model="nowhere", stream=True)

    def test_an_over_long_prompt(self):
        messages = [{"role": "user", "content": "harbour " * 60_000}]
        message = self.raises(anthropic.BadRequestError, "invalid_request_error", messages=messages)
        self.assertRegex(message, r"prompt is too long: \d+ tokens > \d+ maximum")
        count = client.messages.count_tokens(model="tiny-chat", messages=messages).input_tokens
        self.assertIn(f"prompt is too long: {count} tokens", message)

    def test_a_wrong_key(self):
        stranger = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
        with self.assertRaises(anthropic.AuthenticationError):
            stranger.messages.create(model="tiny-chat", max_tokens=1, messages=USER)
        bearer = anthropic.Anthropic(base_url=URL, api_key=None, auth_token=KEY, max_retries=0)
        self.assertEqual(bearer.messages.create(model="tiny-chat", max_tokens=1, messages=USER).type, "message")


class Models(unittest.TestCase):
    def test_the_list(self):
        self.assertIn("tiny-chat", [model.id for model in client.models.list()])
        self.assertEqual(client.models.retrieve("tiny-chat").type, "model")


if __name__ == "__main__":
    unittest.main()
