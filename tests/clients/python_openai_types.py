"""Every answer and every event against the typed models of the official Python SDK of OpenAI, which by itself checks nothing it reads.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.
"""

import os
import unittest

import openai
import pydantic
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import InputTokenCountResponse, Response, ResponseItemList, ResponseStreamEvent

client = openai.OpenAI(base_url=os.environ["HEARTH_URL"] + "/v1", api_key=os.environ["HEARTH_KEY"], max_retries=0)
EVENT = pydantic.TypeAdapter(ResponseStreamEvent)
PARAMETERS = {
    "type": "object",
    "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["days"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "parameters": PARAMETERS, "strict": True}
FORCED = {"model": "tiny-tool", "tool_choice": "required", "parallel_tool_calls": False}
SCHEMA = {"name": "days", "schema": PARAMETERS, "strict": True}


def data(response):
    """The objects of a stream, as they were written."""
    lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
    return [line for line in lines if line != "[DONE]"]


class Types(unittest.TestCase):
    def test_chat(self):
        for more in (
            {},
            {"n": 2, "logprobs": True, "top_logprobs": 2},
            {"model": "tiny-think", "max_tokens": 9},
            {**FORCED, "tools": [{"type": "function", "function": FUNCTION}], "max_tokens": 100},
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}, "max_tokens": 100},
        ):
            body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 5, "temperature": 0, **more}
            with self.subTest(list(more)):
                ChatCompletion.model_validate_json(client.chat.completions.with_raw_response.create(**body).text)
                body["stream_options"] = {"include_usage": True}
                with client.chat.completions.with_streaming_response.create(**body, stream=True) as response:
                    pieces = [ChatCompletionChunk.model_validate_json(piece) for piece in data(response)]
                self.assertGreater(len(pieces), 2)

    def test_responses(self):
        function = {"type": "function", **FUNCTION}
        for more in (
            {},
            {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
            {"model": "tiny-think", "max_output_tokens": 30, "reasoning": {"effort": "low"}},
            {**FORCED, "tools": [function], "max_output_tokens": 100},
            {**FORCED, "tools": [function], "tool_choice": {"type": "function", "name": "get_weather"}, "max_output_tokens": 100},
            {"tools": [{"type": "namespace", "name": "sky", "description": "The sky.", "tools": [function]}]},
            {"text": {"format": {"type": "json_schema", **SCHEMA}}, "max_output_tokens": 100},
        ):
            body = {"model": "tiny-chat", "input": "Say something.", "max_output_tokens": 5, "temperature": 0, **more}
            with self.subTest(list(more)):
                Response.model_validate_json(client.responses.with_raw_response.create(**body).text)
                with client.responses.with_streaming_response.create(**body, stream=True) as response:
                    events = [EVENT.validate_json(event) for event in data(response)]
                self.assertEqual(events[0].type, "response.created")

    def test_the_neighbours_of_responses(self):
        response = client.responses.create(model="tiny-chat", input="Say something.", max_output_tokens=2)
        ResponseItemList.model_validate_json(client.responses.input_items.with_raw_response.list(response.id).text)
        count = client.responses.input_tokens.with_raw_response.count(model="tiny-chat", input="Say something.")
        InputTokenCountResponse.model_validate_json(count.text)

    def test_the_others(self):
        # With echo the first token has no log-probability, which the type does not know and lm-eval counts on.
        for more in ({"echo": True}, {"logprobs": 2, "n": 2}):
            completion = client.completions.with_raw_response.create(model="tiny-chat", prompt="The harbour", max_tokens=3, **more)
            Completion.model_validate_json(completion.text)
        embedding = client.embeddings.with_raw_response.create(model="tiny-chat", input="one", encoding_format="float")
        CreateEmbeddingResponse.model_validate_json(embedding.text)
        Model.model_validate_json(client.models.with_raw_response.retrieve("tiny-chat").text)


if __name__ == "__main__":
    unittest.main()
