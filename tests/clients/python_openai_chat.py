"""The official Python SDK of OpenAI against hearth's chat, completions, embeddings and models: every must that the SDK can show.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.
"""

import asyncio
import json
import math
import os
import typing
import unittest
import urllib.request

import openai
import pydantic

URL, KEY = os.environ["HEARTH_URL"] + "/v1", os.environ["HEARTH_KEY"]
client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
USER = [{"role": "user", "content": "Say something."}]
LONG = "Tell me about the harbour and its lights. " * 30
PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["place", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a place.", "parameters": PARAMETERS, "strict": True}}
OTHER = {"type": "function", "function": {"name": "get_time"}}


class Animal(pydantic.BaseModel):
    kind: typing.Literal["cat", "dog"]
    legs: int = pydantic.Field(ge=0, le=9)
    colours: list[typing.Literal["red", "grün"]] = pydantic.Field(min_length=1, max_length=2)


def create(**more):
    return client.chat.completions.create(**{"model": "tiny-chat", "messages": USER, "max_tokens": 24, "temperature": 0, **more})


def chunks(**more):
    return list(create(stream=True, **more))


def text(**more):
    return create(**more).choices[0].message.content


def complete(prompt="The harbour", **more):
    return client.completions.create(**{"model": "tiny-chat", "prompt": prompt, "temperature": 0, "max_tokens": 12, **more})


def tokenize(text):
    body = json.dumps({"model": "tiny-chat", "content": text}).encode()
    request = urllib.request.Request(os.environ["HEARTH_URL"] + "/tokenize", body, {"Authorization": f"Bearer {KEY}"})
    return json.load(urllib.request.urlopen(request))["tokens"]


def joined(pieces, index=0):
    """What the chunks of one choice add up to: role, reasoning, text, calls, finish reason."""
    role, reasoning, content, calls, finish = None, "", "", {}, None
    for choice in (choice for piece in pieces for choice in piece.choices if choice.index == index):
        role = role or choice.delta.role
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            entry = calls.setdefault(call.index, {"name": "", "arguments": "", "ids": []})
            entry["ids"] += [call.id] if call.id else []
            entry["name"] += call.function.name or ""
            entry["arguments"] += call.function.arguments or ""
        finish = finish or choice.finish_reason
    return role, reasoning, content, [calls[k] for k in sorted(calls)], finish


class Chat(unittest.TestCase):
    def test_an_answer(self):
        answer = create()
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertEqual((answer.object, answer.model, len(answer.choices)), ("chat.completion", "tiny-chat", 1))
        choice = answer.choices[0]
        self.assertEqual((choice.index, choice.message.role, choice.message.refusal, choice.logprobs), (0, "assistant", None, None))
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertFalse(choice.message.tool_calls)
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLessEqual(usage.completion_tokens, 24)
        self.assertIsInstance(usage.prompt_tokens_details.cached_tokens, int)
        self.assertEqual(usage.completion_tokens_details.reasoning_tokens, 0)

    def test_the_limit(self):
        for more in ({"max_tokens": 2}, {"max_completion_tokens": 2, "max_tokens": 9}):
            answer = create(**more)
            self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 2))
        self.assertEqual(create(max_tokens=10_000_000, stop=["e", "a", "i"]).choices[0].finish_reason, "stop")

    def test_a_stream_is_the_answer(self):
        for model in ("tiny-chat", "tiny-think"):
            whole, pieces = create(model=model), chunks(model=model, stream_options={"include_usage": True})
            role, reasoning, content, calls, finish = joined(pieces)
            message = whole.choices[0].message
            self.assertEqual((role, calls, finish), ("assistant", [], whole.choices[0].finish_reason))
            self.assertEqual(content, message.content or "")
            self.assertEqual(reasoning, getattr(message, "reasoning_content", None) or "")
            self.assertEqual(len({(piece.id, piece.created, piece.model) for piece in pieces}), 1)
            self.assertTrue(all(piece.object == "chat.completion.chunk" for piece in pieces))
            self.assertEqual([piece.usage is not None for piece in pieces], [False] * (len(pieces) - 1) + [True])
            last = pieces[-1]
            self.assertEqual(last.choices, [])
            self.assertEqual(last.usage.completion_tokens, whole.usage.completion_tokens)
            self.assertEqual(last.usage.prompt_tokens, whole.usage.prompt_tokens)
            finishes = [choice.finish_reason for piece in pieces for choice in piece.choices if choice.finish_reason]
            self.assertEqual(len(finishes), 1)
            self.assertEqual(len([1 for piece in pieces for choice in piece.choices if choice.delta.role]), 1)

    def test_without_include_usage_no_chunk_has_it(self):
        self.assertTrue(all(piece.usage is None and piece.choices for piece in chunks()))

    def test_the_stream_helper_of_the_sdk(self):
        stop = text()[5:8]
        with client.chat.completions.stream(model="tiny-chat", messages=USER, max_tokens=24, temperature=0, stop=stop) as stream:
            deltas = "".join(event.delta for event in stream if event.type == "content.delta")
            self.assertEqual(deltas, text(stop=stop))
            self.assertEqual(stream.get_final_completion().choices[0].message.content, deltas)

    def test_the_client_that_is_asynchronous(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as asynchronous:
                body = {"model": "tiny-chat", "messages": USER, "max_tokens": 24, "temperature": 0}
                answers = await asyncio.gather(*(asynchronous.chat.completions.create(**body) for _ in range(8)))
                return [answer.choices[0].message.content for answer in answers]

        self.assertEqual(asyncio.run(ask()), [text()] * 8, "together as alone")

    def test_messages_in_all_forms(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": "Say something."}]}]
        self.assertEqual(text(messages=parts), text())
        self.assertEqual(
            text(messages=[{"role": "developer", "content": "Be brief."}, *USER]), text(messages=[{"role": "system", "content": "Be brief."}, *USER])
        )
        call = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": ""}}
        create(messages=[
            {"role": "system", "content": "a"}, {"role": "system", "content": "b"}, *USER, *USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
            {"role": "system", "content": "c"},
        ])

    def test_seeds(self):
        warm = {"temperature": 1.5, "max_tokens": 16}
        self.assertEqual(text(seed=7, **warm), text(seed=7, **warm))
        self.assertGreater(len({text(seed=seed, **warm) for seed in range(4)}), 1)
        self.assertGreater(len({text(**warm) for _ in range(4)}), 1)

    def test_stops(self):
        whole = text()
        stop = whole[5:8]
        for stops in (stop, [stop], ["nowhere in it", stop]):
            choice = create(stop=stops).choices[0]
            self.assertEqual((choice.message.content, choice.finish_reason), (whole[: whole.index(stop)], "stop"))
            self.assertEqual(joined(chunks(stop=stops))[2], choice.message.content)
        # Held back because it could begin a stop, delivered because it did not.
        self.assertEqual(joined(chunks(stop=[whole[-1] + "\u0001"]))[2], whole)

    def test_several_answers(self):
        answer = create(n=3, temperature=1, seed=5)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 1)
        pieces = chunks(n=3, temperature=1, seed=5, stream_options={"include_usage": True})
        for choice in answer.choices:
            self.assertEqual(joined(pieces, choice.index)[2], choice.message.content)
        self.assertEqual(pieces[-1].usage.completion_tokens, answer.usage.completion_tokens)
        self.assertEqual(answer.usage.prompt_tokens, create().usage.prompt_tokens)

    def test_log_probabilities(self):
        choice = create(logprobs=True, top_logprobs=3).choices[0]
        entries = choice.logprobs.content
        self.assertEqual(bytes(byte for entry in entries for byte in entry.bytes or []).decode(), choice.message.content)
        for entry in entries:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual((entry.top_logprobs[0].token, entry.top_logprobs[0].logprob), (entry.token, entry.logprob))
            values = [top.logprob for top in entry.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
        streamed = [e for piece in chunks(logprobs=True, top_logprobs=3) for c in piece.choices if c.logprobs for e in c.logprobs.content]
        self.assertEqual(streamed, entries)
        self.assertTrue(all(entry.top_logprobs == [] for entry in create(logprobs=True).choices[0].logprobs.content))

    def test_biases_and_penalties(self):
        token = create(logprobs=True, max_tokens=1).choices[0].logprobs.content[0]
        number = token.model_extra["id"]
        self.assertNotEqual(text(logit_bias={str(number): -100}, max_tokens=1), token.token)
        forced = create(logit_bias={str(number): 100}, max_tokens=4, temperature=1).choices[0].message.content
        self.assertEqual(forced, token.token * 4)
        self.assertNotEqual(text(presence_penalty=2, frequency_penalty=2, max_tokens=64), text(max_tokens=64))

    def test_a_second_time_is_read_from_the_cache(self):
        messages = [{"role": "user", "content": "Once again. " + LONG}]
        first, second = create(messages=messages), create(messages=messages)
        self.assertGreater(second.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual(first.usage.prompt_tokens, second.usage.prompt_tokens)
        self.assertEqual(first.choices[0].message.content, second.choices[0].message.content)

    def test_a_last_message_of_the_assistant_is_continued(self):
        begun = create(max_tokens=8)
        continued = create(messages=[*USER, {"role": "assistant", "content": begun.choices[0].message.content}])
        # No turn was closed and none opened: the prompt is longer by what was said and by nothing else.
        self.assertIn(continued.usage.prompt_tokens - begun.usage.prompt_tokens, range(1, 9))

    def test_efforts_are_known_on_every_model(self):
        for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
            for model in ("tiny-chat", "tiny-think"):
                create(model=model, reasoning_effort=effort, max_tokens=2)
        answer = create(model="tiny-think", reasoning_effort="none")
        self.assertEqual(answer.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_thinking(self):
        answer = create(model="tiny-think", max_tokens=64)
        self.assertTrue(answer.choices[0].message.reasoning_content)
        self.assertNotIn("<think>", answer.choices[0].message.content or "")
        self.assertGreater(answer.usage.completion_tokens_details.reasoning_tokens, 0)
        off = create(model="tiny-think", max_tokens=16, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
        self.assertFalse(getattr(off.choices[0].message, "reasoning_content", None))

    def test_notices(self):
        ask = client.chat.completions.with_raw_response.create
        body = {"model": "tiny-chat", "messages": USER, "max_tokens": 1}
        for stream in (False, True):
            raw = ask(**body, stream=stream, user="u", store=True, extra_body={"wings": 2})
            notice = raw.headers["hearth-notice"]
            for field in ("user", "store", "wings"):
                self.assertIn(f"ignored={field}", notice)
            self.assertTrue(raw.headers["x-request-id"].startswith("req_"))
        self.assertNotIn("hearth-notice", ask(**body).headers)
        with self.assertRaises(openai.BadRequestError):
            ask(**body, extra_body={"hearth": {"strict": True}, "wings": 2})

    def test_what_turns_out_late(self):
        body = {"tools": [TOOL], "tool_choice": "required", "max_tokens": 6}
        whole, pieces = create(**body), chunks(**body)
        notices = whole.model_extra["hearth"]["notices"]
        self.assertIn("call", notices[0])
        told = [piece.model_extra["hearth"]["notices"] for piece in pieces if "hearth" in piece.model_extra]
        self.assertEqual(told, [notices])
        self.assertNotIn("hearth", create().model_extra)


class Formats(unittest.TestCase):
    def test_an_object(self):
        for seed in range(3):
            answer = create(response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=400).choices[0]
            if answer.finish_reason == "stop":
                self.assertIsInstance(json.loads(answer.message.content), dict)

    def test_a_schema(self):
        # The thoughts of a model without training never end, so it is told not to have any.
        for model, effort in (("tiny-chat", "medium"), ("tiny-think", "none")):
            for seed in range(3):
                body = {"model": model, "messages": USER, "max_tokens": 400, "temperature": 1, "seed": seed, "reasoning_effort": effort}
                parsed = client.chat.completions.parse(**body, response_format=Animal).choices[0].message.parsed
                self.assertIn(parsed.kind, ("cat", "dog"))

    def test_a_schema_in_a_stream(self):
        body = {"model": "tiny-chat", "messages": USER, "max_tokens": 400, "temperature": 0}
        with client.chat.completions.stream(**body, response_format=Animal) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0].message
        self.assertEqual(streamed.content, client.chat.completions.parse(**body, response_format=Animal).choices[0].message.content)

    def test_what_cannot_be_kept_is_refused_and_named(self):
        def ask(schema):
            create(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})

        for keyword, schema in {
            "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 3},
            "banana": {"type": "banana"},
            "$ref": {"$ref": "#/$defs/nowhere"},
            "pattern": {"type": "string", "pattern": "("},
        }.items():
            with self.assertRaises(openai.BadRequestError) as caught:
                ask(schema)
            self.assertIn(keyword, str(caught.exception))
        for format in ({"type": "banana"}, "json_object", {"type": "json_schema"}):
            with self.assertRaises(openai.BadRequestError):
                create(response_format=format)


class Tools(unittest.TestCase):
    FORCED = {"model": "tiny-tool", "tools": [TOOL, OTHER], "max_tokens": 300}
    NAMED = {"type": "function", "function": {"name": "get_weather"}}

    def check(self, call):
        self.assertTrue(call.id.startswith("call_"))
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        arguments = json.loads(call.function.arguments)
        self.assertEqual(set(arguments), {"place", "days"})
        self.assertIn(arguments["days"], range(1, 10))

    def test_a_named_call(self):
        for seed in range(3):
            choice = create(**self.FORCED, tool_choice=self.NAMED, temperature=1, seed=seed, parallel_tool_calls=False).choices[0]
            self.assertIn(choice.finish_reason, ("tool_calls", "stop"))
            self.assertFalse(choice.message.content)
            self.assertEqual(len(choice.message.tool_calls), 1)
            self.check(choice.message.tool_calls[0])

    def test_some_call(self):
        choice = create(**self.FORCED, tool_choice="required", parallel_tool_calls=False).choices[0]
        self.assertEqual((choice.finish_reason, len(choice.message.tool_calls)), ("tool_calls", 1))
        self.assertIn(choice.message.tool_calls[0].function.name, ("get_weather", "get_time"))

    def test_a_streamed_call_is_the_call(self):
        body = {**self.FORCED, "tool_choice": self.NAMED, "parallel_tool_calls": False}
        whole, pieces = create(**body).choices[0], chunks(**body)
        _, _, content, calls, finish = joined(pieces)
        self.assertEqual((content, finish), ("", whole.finish_reason))
        self.assertEqual(len(calls), 1)
        self.assertEqual(len(calls[0]["ids"]), 1)
        self.assertEqual((calls[0]["name"], calls[0]["arguments"]), ("get_weather", whole.message.tool_calls[0].function.arguments))

    def test_with_none_everything_is_content(self):
        choice = create(**self.FORCED, tool_choice="none").choices[0]
        self.assertFalse(choice.message.tool_calls)

    def test_a_result_goes_back(self):
        call = create(**self.FORCED, tool_choice=self.NAMED, parallel_tool_calls=False).choices[0].message
        history = [*USER, call.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sunny"}]
        self.assertTrue(create(messages=history, max_tokens=4).choices)
        self.assertTrue(create(**{**self.FORCED, "max_tokens": 4}, tool_choice="none", messages=history).choices)

    def test_tools_of_the_sdk(self):
        class get_weather(pydantic.BaseModel):
            place: str = pydantic.Field(max_length=12)
            days: int = pydantic.Field(ge=1, le=9)

        answer = client.chat.completions.parse(
            model="tiny-tool", messages=USER, max_tokens=300, tools=[openai.pydantic_function_tool(get_weather)], tool_choice="required",
            parallel_tool_calls=False,
        )
        self.assertIsInstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, get_weather)

    def test_what_is_wrong_is_refused(self):
        for more in (
            {"tools": {}}, {"tools": [{"type": "function", "function": {}}]}, {"tools": [TOOL], "tool_choice": "banana"},
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, {"tool_choice": "required"},
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "banana"}}}]},
        ):
            with self.assertRaises(openai.BadRequestError):
                create(**more)


class Completions(unittest.TestCase):
    def test_an_answer_and_its_stream(self):
        answer = complete()
        self.assertTrue(answer.id.startswith("cmpl-"))
        self.assertEqual((answer.object, answer.choices[0].index), ("text_completion", 0))
        pieces = list(complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.text for piece in pieces for c in piece.choices), answer.choices[0].text)
        self.assertEqual((pieces[-1].choices, pieces[-1].usage.total_tokens), ([], answer.usage.total_tokens))
        self.assertEqual(client.completions.create(model="tiny-chat", prompt="a", temperature=0).usage.completion_tokens, 16)

    def test_prompts_in_all_forms(self):
        tokens = tokenize("The harbour")
        self.assertEqual(complete(tokens).choices[0].text, complete().choices[0].text)
        several = complete(["The harbour", "A light"], n=2)
        self.assertEqual([choice.index for choice in several.choices], [0, 1, 2, 3])
        self.assertEqual(several.choices[0].text, complete().choices[0].text)
        self.assertEqual(several.choices[2].text, complete("A light").choices[0].text)
        self.assertEqual([c.text for c in complete([tokens, tokens]).choices], [complete().choices[0].text] * 2)

    def test_echo_and_log_probabilities(self):
        answer = complete(echo=True, logprobs=2, max_tokens=4)
        logprobs = answer.choices[0].logprobs
        self.assertTrue(answer.choices[0].text.startswith("The harbour"))
        lengths = {len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.top_logprobs), len(logprobs.text_offset)}
        self.assertEqual(len(lengths), 1)
        self.assertEqual("".join(logprobs.tokens), answer.choices[0].text)
        self.assertEqual((logprobs.token_logprobs[0], logprobs.top_logprobs[0], logprobs.text_offset[0]), (None, None, 0))
        self.assertTrue(all(value <= 0 for value in logprobs.token_logprobs[1:]))
        self.assertEqual(logprobs.text_offset, sorted(logprobs.text_offset))
        scored = complete(echo=True, logprobs=1, max_tokens=0)
        self.assertEqual(scored.choices[0].text, "The harbour")
        self.assertEqual(scored.usage.completion_tokens, 0)

    def test_a_suffix_is_used(self):
        with_suffix = complete(suffix=" of the sea.")
        self.assertNotEqual(with_suffix.usage.prompt_tokens, complete().usage.prompt_tokens)

    def test_what_is_wrong_is_refused(self):
        for prompt in ([], [10**9], [-1], [[]], 5):
            with self.assertRaises(openai.BadRequestError):
                complete(prompt)
        with self.assertRaises(openai.BadRequestError):
            complete(max_tokens=-1)


class Embeddings(unittest.TestCase):
    def embed(self, texts, **more):
        return client.embeddings.create(model="tiny-chat", input=texts, **more)

    def test_vectors(self):
        answer = self.embed(["one", "two", "one"])
        self.assertEqual([entry.index for entry in answer.data], [0, 1, 2])
        self.assertEqual(answer.data[0].embedding, answer.data[2].embedding)
        self.assertAlmostEqual(math.hypot(*answer.data[1].embedding), 1, places=5)
        self.assertEqual(self.embed("two").data[0].embedding, answer.data[1].embedding, "alone as in a batch")
        plain = self.embed("two", encoding_format="float").data[0].embedding
        for a, b in zip(plain, answer.data[1].embedding):
            self.assertAlmostEqual(a, b, places=6)
        self.assertGreater(answer.usage.prompt_tokens, 0)

    def test_fewer_dimensions(self):
        vector = self.embed("two", dimensions=8).data[0].embedding
        self.assertEqual(len(vector), 8)
        self.assertAlmostEqual(math.hypot(*vector), 1, places=5)

    def test_what_is_wrong_is_refused(self):
        for texts in ("", [], None, 5, [-1], [None]):
            with self.assertRaises(openai.BadRequestError):
                self.embed(texts)
        for more in ({"dimensions": 0}, {"dimensions": 10**6}, {"encoding_format": "banana"}):
            with self.assertRaises(openai.BadRequestError):
                self.embed("a", **more)


class Models(unittest.TestCase):
    def test_a_list_and_one(self):
        names = [model.id for model in client.models.list()]
        self.assertIn("tiny-chat", names)
        model = client.models.retrieve("tiny-chat")
        self.assertEqual((model.id, model.object), ("tiny-chat", "model"))
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("nowhere")
        self.assertEqual(caught.exception.code, "model_not_found")


class Errors(unittest.TestCase):
    def raises(self, kind, param, **more):
        with self.assertRaises(kind) as caught:
            create(**more)
        self.assertEqual(set(caught.exception.body), {"message", "type", "param", "code"})
        if param:
            self.assertEqual(caught.exception.param, param)
        return caught.exception

    def test_each_has_its_class_and_names_its_field(self):
        self.assertEqual(self.raises(openai.NotFoundError, "model", model="nowhere").code, "model_not_found")
        self.assertIn("nowhere", str(self.raises(openai.NotFoundError, "model", model="nowhere", stream=True)))
        for param, value in {
            "temperature": 3, "top_p": -0.1, "max_tokens": 0, "n": 129, "stop": 5, "presence_penalty": 3, "seed": "a", "top_logprobs": 2,
            "logit_bias": {"a": 1}, "reasoning_effort": "banana", "stream": "yes", "max_completion_tokens": 1.5,
        }.items():
            self.raises(openai.BadRequestError, None if param == "logit_bias" else param, **{param: value})
        for messages in (
            [], "hi", [{"role": "banana", "content": "hi"}], [{"role": "user"}], [{"role": "user", "content": 5}],
            [{"role": "user", "content": [{"type": "banana"}]}], [{"role": "tool", "content": "x"}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]}],
        ):
            self.raises(openai.BadRequestError, None, messages=messages)

    def test_an_over_long_prompt(self):
        error = self.raises(openai.BadRequestError, None, messages=[{"role": "user", "content": "harbour " * 60_000}])
        self.assertEqual(error.code, "context_length_exceeded")

    def test_ranking_needs_a_model_that_ranks(self):
        body = {"model": "tiny-chat", "query": "light", "documents": ["a harbour", "a lamp"]}
        with self.assertRaises(openai.BadRequestError) as caught:
            client.post("/rerank", cast_to=object, body=body)
        self.assertIn("ranking head", str(caught.exception))
        with self.assertRaises(openai.NotFoundError):
            client.post("/rerank", cast_to=object, body={**body, "model": "nowhere"})

    def test_a_wrong_key(self):
        stranger = openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError) as caught:
            stranger.chat.completions.create(model="tiny-chat", messages=USER)
        self.assertEqual(caught.exception.code, "invalid_api_key")


if __name__ == "__main__":
    unittest.main()
