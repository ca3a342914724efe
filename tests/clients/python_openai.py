"""The official Python SDK of OpenAI against hearth's /v1/responses: every must of it that the SDK can show.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.
"""

import json
import os
import unittest

import openai
import pydantic

client = openai.OpenAI(base_url=os.environ["HEARTH_URL"] + "/v1", api_key=os.environ["HEARTH_KEY"], max_retries=0)
LONG = "Tell me about the harbour and its lights. " * 30
TOOL = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["place", "days"],
        "additionalProperties": False,
    },
}


class Digit(pydantic.BaseModel):
    digit: int = pydantic.Field(ge=0, le=9)


def create(**more):
    return client.responses.create(
        **{"model": "tiny-chat", "input": "Say something.", "max_output_tokens": 24, "temperature": 0, **more}
    )


def output(response):
    """The output without what is made anew for each answer."""
    return [{k: v for k, v in item.model_dump().items() if k not in ("id", "call_id")} for item in response.output]


class Responses(unittest.TestCase):
    def test_an_answer(self):
        response = create(metadata={"k": "v"}, instructions="Be brief.")
        self.assertTrue(response.id.startswith("resp_"))
        self.assertEqual((response.object, response.model, response.error), ("response", "tiny-chat", None))
        self.assertEqual((response.metadata, response.instructions, response.store), ({"k": "v"}, "Be brief.", True))
        self.assertEqual((response.tool_choice, response.tools, response.parallel_tool_calls), ("auto", [], True))
        self.assertEqual(response.output[-1].type, "message")
        self.assertTrue(response.output_text)
        self.assertEqual(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens)

    def test_the_limit(self):
        response = create(max_output_tokens=2)
        self.assertEqual((response.status, response.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual((response.output[-1].status, response.usage.output_tokens), ("incomplete", 2))

    def test_a_stream_is_the_answer(self):
        whole = create()
        with client.responses.stream(model="tiny-chat", input="Say something.", max_output_tokens=24, temperature=0) as s:
            events = list(s)
            response = s.get_final_response() if whole.status == "completed" else events[-1].response
        self.assertEqual(output(response), output(whole))
        self.assertEqual(response.usage.output_tokens, whole.usage.output_tokens)
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        self.assertEqual([event.type for event in events[:2]], ["response.created", "response.in_progress"])
        self.assertEqual((events[0].response.output, events[0].response.status), ([], "in_progress"))
        self.assertEqual(len({event.response.id for event in events if hasattr(event, "response")}), 1)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(text, whole.output_text)

    def test_items_in_all_forms(self):
        one = create(input=[{"role": "user", "content": "Say something."}])
        two = create(input=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say something."}]}])
        three = create()
        self.assertEqual(output(one), output(two))
        self.assertEqual(output(one), output(three))
        self.assertEqual(one.usage.input_tokens, three.usage.input_tokens)

    def test_counting(self):
        body = {"model": "tiny-chat", "input": LONG, "instructions": "Be brief.", "tools": [TOOL]}
        count = client.responses.input_tokens.count(**body)
        self.assertEqual(count.object, "response.input_tokens")
        self.assertEqual(count.input_tokens, create(**body).usage.input_tokens)

    def test_a_second_time_is_read_from_the_cache(self):
        first, second = create(input="Once. " + LONG), create(input="Once. " + LONG)
        self.assertGreater(second.usage.input_tokens_details.cached_tokens, 0)
        self.assertEqual(first.usage.input_tokens, second.usage.input_tokens)
        self.assertEqual(output(first), output(second))

    def test_a_schema_binds_the_answer(self):
        response = client.responses.parse(model="tiny-chat", input="A digit.", text_format=Digit, max_output_tokens=200)
        self.assertIn(response.output_parsed.digit, range(10))

    def test_log_probabilities(self):
        response = create(include=["message.output_text.logprobs"], top_logprobs=3)
        part = response.output[-1].content[0]
        self.assertTrue(part.logprobs)
        for entry in part.logprobs:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(entry.top_logprobs[0].token, entry.token)

    def test_thinking_comes_first(self):
        more = {"model": "tiny-think", "reasoning": {"effort": "medium"}, "max_output_tokens": 64}
        response = create(**more)
        self.assertEqual(response.output[0].type, "reasoning")
        self.assertTrue(response.output[0].content[0].text)
        self.assertGreater(response.usage.output_tokens_details.reasoning_tokens, 0)
        again = create(**more, stream=True)
        streamed = [event for event in again if event.type in ("response.completed", "response.incomplete")][0].response
        self.assertEqual(output(streamed), output(response))
        items = [{"role": "user", "content": "Say something."}, *[item.model_dump() for item in response.output]]
        create(model="tiny-think", input=[*items, {"role": "user", "content": "Go on."}])

    def test_notices(self):
        raw = client.responses.with_raw_response.create(
            model="tiny-chat", input="hi", max_output_tokens=1, user="u", tools=[{"type": "web_search"}], store=False
        )
        notice = raw.headers["hearth-notice"]
        self.assertIn("ignored=user", notice)
        self.assertIn("dropped-tool=web_search", notice)
        self.assertTrue(raw.headers["x-request-id"].startswith("req_"))


class Stored(unittest.TestCase):
    def test_a_conversation_goes_on(self):
        first = create()
        second = create(input="And then?", previous_response_id=first.id)
        self.assertEqual(second.previous_response_id, first.id)
        by_hand = [{"role": "user", "content": "Say something."}, *[item.model_dump() for item in first.output]]
        same = create(input=[*by_hand, {"role": "user", "content": "And then?"}], store=False)
        self.assertEqual(output(second), output(same))
        self.assertEqual(second.usage.input_tokens, same.usage.input_tokens)

    def test_instructions_are_not_inherited(self):
        first = create(instructions="Be brief.")
        second = create(input="And then?", previous_response_id=first.id)
        self.assertIsNone(second.instructions)

    def test_it_is_found_again(self):
        response = create()
        found = client.responses.retrieve(response.id)
        self.assertEqual(found.model_dump(), response.model_dump())
        items = client.responses.input_items.list(response.id).data
        self.assertEqual([(item.type, item.role, item.content[0].text) for item in items], [("message", "user", "Say something.")])
        client.responses.delete(response.id)
        with self.assertRaises(openai.NotFoundError):
            client.responses.retrieve(response.id)

    def test_what_is_not_to_be_kept_is_not(self):
        response = create(store=False)
        for ask in (client.responses.retrieve, client.responses.delete):
            with self.assertRaises(openai.NotFoundError):
                ask(response.id)
        with self.assertRaises(openai.BadRequestError) as caught:
            create(previous_response_id=response.id)
        self.assertEqual(caught.exception.code, "previous_response_not_found")

    def test_a_streamed_response_is_kept_before_it_is_complete(self):
        for event in create(stream=True):
            if event.type in ("response.completed", "response.incomplete"):
                create(input="And then?", previous_response_id=event.response.id)

    def test_a_reference_to_a_stored_item(self):
        response = create()
        reference = {"type": "item_reference", "id": response.output[-1].id}
        create(input=[{"role": "user", "content": "Say something."}, reference, {"role": "user", "content": "So?"}])


class Tools(unittest.TestCase):
    MORE = {"model": "tiny-tool", "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "max_output_tokens": 300}

    def check(self, item):
        self.assertEqual((item.type, item.name, item.status), ("function_call", "get_weather", "completed"))
        self.assertTrue(item.call_id.startswith("call_"))
        arguments = json.loads(item.arguments)
        self.assertEqual(set(arguments), {"place", "days"})
        self.assertIn(arguments["days"], range(1, 10))

    def test_a_forced_call(self):
        for choice in ("required", {"type": "function", "name": "get_weather"}):
            response = create(**{**self.MORE, "tool_choice": choice})
            self.assertEqual([item.type for item in response.output], ["function_call"])
            self.assertEqual(response.status, "completed")
            self.check(response.output[0])

    def test_a_streamed_call_is_the_call(self):
        events = list(create(**self.MORE, stream=True))
        response = events[-1].response
        self.check(response.output[0])
        self.assertEqual(output(response), output(create(**self.MORE)))
        pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        self.assertEqual("".join(pieces), response.output[0].arguments)
        added = [event.item for event in events if event.type == "response.output_item.added"]
        self.assertEqual([(item.id, item.arguments) for item in added], [(response.output[0].id, "")])

    def test_a_result_goes_back(self):
        call = create(**self.MORE)
        result = {"type": "function_call_output", "call_id": call.output[0].call_id, "output": "sunny"}
        for body in (
            {"input": [result], "previous_response_id": call.id},
            {"input": [{"role": "user", "content": "Say something."}, *[item.model_dump() for item in call.output], result]},
        ):
            answer = create(**{**self.MORE, "tool_choice": "none", "max_output_tokens": 8, **body})
            self.assertEqual([item.type for item in answer.output], ["message"])

    def test_a_function_of_a_namespace(self):
        tools = [{"type": "namespace", "name": "sky", "description": "The sky.", "tools": [TOOL]}]
        item = create(**{**self.MORE, "tools": tools}).output[0]
        self.assertEqual((item.name, item.namespace), ("get_weather", "sky"))


class Errors(unittest.TestCase):
    def raises(self, kind, param, **more):
        with self.assertRaises(kind) as caught:
            create(**more)
        self.assertEqual(set(caught.exception.body), {"message", "type", "param", "code"})
        self.assertEqual(caught.exception.param, param)
        return caught.exception

    def test_each_has_its_class_and_names_its_field(self):
        error = self.raises(openai.NotFoundError, "model", model="nowhere")
        self.assertEqual(error.code, "model_not_found")
        bad = openai.BadRequestError
        self.raises(bad, "input", input=5)
        self.raises(bad, "input[0].type", input=[{"type": "banana"}])
        self.raises(bad, "max_output_tokens", max_output_tokens=-1)
        self.raises(bad, "temperature", temperature=3)
        self.raises(bad, "tool_choice", tool_choice="banana")
        self.raises(bad, "tool_choice.name", tool_choice={"type": "function", "name": "other"}, tools=[TOOL])
        self.raises(bad, "tools[0].name", tools=[{"type": "function"}])
        self.raises(openai.NotFoundError, "model", model="nowhere", stream=True)

    def test_an_over_long_prompt(self):
        for truncation in ("disabled", "auto"):
            with self.assertRaises(openai.BadRequestError) as caught:
                create(input="harbour " * 60_000, truncation=truncation)
            self.assertEqual(caught.exception.code, "context_length_exceeded")


if __name__ == "__main__":
    unittest.main()
