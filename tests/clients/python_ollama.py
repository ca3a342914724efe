"""The official Python SDK of Ollama against hearth's /api: every must of the dialect that the SDK can show.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY.
"""

import asyncio
import json
import math
import os
import time
import typing
import unittest
import urllib.request

import ollama
import pydantic

URL, KEY = os.environ["HEARTH_URL"], os.environ["HEARTH_KEY"]
HEADERS = {"Authorization": f"Bearer {KEY}"}
client = ollama.Client(host=URL, headers=HEADERS)
USER = [{"role": "user", "content": "Say something."}]
GREEDY = {"temperature": 0, "num_predict": 24}
PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["place", "days"],
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a place.", "parameters": PARAMETERS}}
FIGURES = ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


class Animal(pydantic.BaseModel):
    kind: typing.Literal["cat", "dog"]
    legs: int = pydantic.Field(ge=0, le=9)


def chat(**more):
    return client.chat(**{"model": "tiny-chat", "messages": USER, "options": GREEDY, **more})


def generate(prompt="Say something.", **more):
    return client.generate(**{"model": "tiny-chat", "prompt": prompt, "options": GREEDY, **more})


def post(path, body, content_type="application/x-www-form-urlencoded"):
    """A request without the SDK: status, headers, text."""
    request = urllib.request.Request(URL + path, body.encode(), {**HEADERS, "Content-Type": content_type})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


class Chat(unittest.TestCase):
    def test_an_answer(self):
        answer = chat()
        self.assertEqual((answer.model, answer.done, answer.message.role), ("tiny-chat", True, "assistant"))
        self.assertIn(answer.done_reason, ("stop", "length"))
        self.assertTrue(answer.message.content)
        self.assertRegex(answer.created_at, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        for name in FIGURES:
            self.assertIsInstance(answer[name], int, name)

    def test_a_stream_is_the_answer(self):
        for model in ("tiny-chat", "tiny-think"):
            whole, lines = chat(model=model), list(chat(model=model, stream=True))
            self.assertEqual("".join(line.message.content for line in lines), whole.message.content)
            self.assertEqual("".join(line.message.thinking or "" for line in lines), whole.message.thinking or "")
            self.assertEqual([line.done for line in lines], [False] * (len(lines) - 1) + [True])
            last = lines[-1]
            self.assertEqual((last.done_reason, last.eval_count), (whole.done_reason, whole.eval_count))
            self.assertEqual(last.prompt_eval_count, whole.prompt_eval_count)
            for name in FIGURES:
                self.assertIsInstance(last[name], int, name)

    def test_streams_are_the_rule(self):
        status, headers, text = post("/api/chat", json.dumps({"model": "tiny-chat", "messages": USER, "options": GREEDY}))
        self.assertEqual((status, headers["Content-Type"]), (200, "application/x-ndjson"))
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual("".join(line["message"]["content"] for line in lines), chat().message.content)

    def test_the_client_that_is_asynchronous(self):
        async def ask():
            asynchronous = ollama.AsyncClient(host=URL, headers=HEADERS)
            answers = await asyncio.gather(*(asynchronous.chat(model="tiny-chat", messages=USER, options=GREEDY) for _ in range(6)))
            return [answer.message.content for answer in answers]

        self.assertEqual(asyncio.run(ask()), [chat().message.content] * 6)

    def test_the_same_as_the_other_dialect(self):
        body = {"model": "tiny-chat", "messages": USER, "temperature": 0, "max_tokens": 24}
        answer = json.loads(post("/v1/chat/completions", json.dumps(body))[2])
        ours = chat(options={**GREEDY, "top_p": 1, "top_k": 0})
        self.assertEqual(answer["choices"][0]["message"]["content"], ours.message.content)
        self.assertEqual(answer["usage"]["prompt_tokens"], ours.prompt_eval_count)
        self.assertEqual(answer["usage"]["completion_tokens"], ours.eval_count)

    def test_latest_is_the_same_model(self):
        answer = chat(model="tiny-chat:latest")
        self.assertEqual((answer.model, answer.message.content), ("tiny-chat:latest", chat().message.content))

    def test_options(self):
        warm = {"temperature": 1.5, "num_predict": 16}
        self.assertEqual(chat(options={**warm, "seed": 3}).message.content, chat(options={**warm, "seed": 3}).message.content)
        self.assertGreater(len({chat(options=warm).message.content for _ in range(4)}), 1)
        answer = chat(options={"num_predict": 2})
        self.assertEqual((answer.eval_count, answer.done_reason), (2, "length"))
        whole = chat().message.content
        stopped = chat(options={**GREEDY, "stop": [whole[5:8]]})
        self.assertEqual((stopped.message.content, stopped.done_reason), (whole[: whole.index(whole[5:8])], "stop"))

    def test_formats(self):
        options = {"temperature": 1, "num_predict": 400, "seed": 1}
        answer = chat(format="json", options=options)
        if answer.done_reason == "stop":
            self.assertIsInstance(json.loads(answer.message.content), dict)
        for model in ("tiny-chat", "tiny-think"):
            for seed in range(3):
                # The thoughts of a model without training never end, so it is told not to have any.
                answer = chat(model=model, think=False, format=Animal.model_json_schema(), options={**options, "seed": seed})
                self.assertIn(Animal.model_validate_json(answer.message.content).kind, ("cat", "dog"))

    def test_thinking(self):
        answer = chat(model="tiny-think", think=True, options={**GREEDY, "num_predict": 64})
        self.assertTrue(answer.message.thinking)
        for think in (False, None):
            chat(think=think)
        self.assertFalse(chat(model="tiny-think", think=False).message.thinking)
        chat(model="tiny-think", think="high")
        with self.assertRaises(ollama.ResponseError) as caught:
            chat(think=True)
        self.assertEqual((caught.exception.status_code, caught.exception.error), (400, '"tiny-chat" does not support thinking'))

    def test_log_probabilities(self):
        answer = chat(logprobs=True, top_logprobs=2)
        self.assertGreaterEqual(len(answer.logprobs), answer.eval_count - 1)
        for entry in answer.logprobs:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 2)
        streamed = [entry for line in chat(logprobs=True, top_logprobs=2, stream=True) for entry in line.logprobs or []]
        self.assertEqual(streamed, list(answer.logprobs))
        body = {"model": "tiny-chat", "messages": USER, "options": GREEDY, "logprobs": True, "stream": False}
        raw = json.loads(post("/api/chat", json.dumps(body))[2])
        joined = b"".join(bytes(entry["bytes"]) for entry in raw["logprobs"]).decode(errors="replace")
        self.assertTrue(joined.startswith(raw["message"]["content"].rstrip("\ufffd")))

    def test_calls_and_results(self):
        history = [
            *USER,
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"place": "Bonn", "days": 2}}}]},
            {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
        ]
        self.assertTrue(chat(messages=history, tools=[TOOL]).done)
        answer = chat(model="tiny-tool", messages=[{"role": "user", "content": "Say\n"}], tools=[TOOL], options={"temperature": 0, "num_predict": 300})
        for call in answer.message.tool_calls or []:
            self.assertEqual(call.function.name, "get_weather")
            self.assertIsInstance(call.function.arguments, typing.Mapping)

    def test_a_streamed_call_is_the_call(self):
        ask = {"model": "tiny-tool", "messages": [{"role": "user", "content": "Say\n"}], "tools": [TOOL], "options": {"temperature": 0, "num_predict": 300}}
        whole, lines = chat(**ask), list(chat(**ask, stream=True))
        calls = [call.function for line in lines for call in line.message.tool_calls or []]
        self.assertEqual(calls, [call.function for call in whole.message.tool_calls or []])
        self.assertEqual("".join(line.message.content for line in lines), whole.message.content)

    def test_notices(self):
        body = {"model": "tiny-chat", "messages": USER, "options": {"num_predict": 1, "num_gpu": 9}, "wings": 2}
        _, headers, _ = post("/api/chat", json.dumps(body))
        self.assertEqual(headers["hearth-notice"], "ignored=options.num_gpu; ignored=wings")
        self.assertEqual(post("/api/chat", json.dumps({**body, "hearth": {"strict": True}}))[0], 400)


class Generate(unittest.TestCase):
    def test_an_answer_and_its_stream(self):
        whole, lines = generate(), list(generate(stream=True))
        self.assertEqual("".join(line.response for line in lines), whole.response)
        self.assertEqual(lines[-1].context, whole.context)
        self.assertEqual(whole.response, chat().message.content, "a prompt is a turn of the user's")
        self.assertEqual(whole.prompt_eval_count, chat().prompt_eval_count)

    def test_a_context_is_continued(self):
        first = generate()
        second = generate("And then?", context=first.context)
        self.assertGreater(second.prompt_eval_count, len(first.context))
        self.assertEqual(list(second.context)[: len(first.context)], list(first.context))

    def test_raw_prompts(self):
        written = "<|im_start|>user\nSay something.<|im_end|>\n<|im_start|>assistant\n"
        raw = generate(written, raw=True)
        self.assertEqual((raw.response, raw.prompt_eval_count), (generate().response, generate().prompt_eval_count))

    def test_system_and_suffix(self):
        self.assertGreater(generate(system="Be brief.").prompt_eval_count, generate().prompt_eval_count)
        self.assertTrue(generate("def f(", suffix="return 1").done)

    def test_loading_and_unloading(self):
        loaded = generate("", keep_alive="5m")
        self.assertEqual((loaded.response, loaded.done, loaded.done_reason), ("", True, "load"))
        running = {model.model: model for model in client.ps().models}
        self.assertIn("tiny-chat", running)
        self.assertGreater(running["tiny-chat"].context_length, 0)
        self.assertEqual(client.chat(model="tiny-chat", messages=[]).done_reason, "load")
        unloaded = generate("", model="tiny-tool", keep_alive=0)
        self.assertEqual(unloaded.done_reason, "unload")
        self.assertNotIn("tiny-tool", [model.model for model in client.ps().models])
        for keep_alive, low, high in (("5m", 290, 301), (60, 50, 61), (-1, 1e8, 1e11)):
            generate("", keep_alive=keep_alive)
            running = {model.model: model for model in client.ps().models}
            left = running["tiny-chat"].expires_at.timestamp() - time.time()
            self.assertTrue(low < left < high, f"{keep_alive}: {left}")


class Models(unittest.TestCase):
    def test_tags(self):
        models = {model.model: model for model in client.list().models}
        model = models["tiny-chat"]
        self.assertGreater(model.size, 0)
        self.assertRegex(model.digest, r"^[0-9a-f]{64}$")
        self.assertEqual((model.details.format, model.details.family, model.details.families), ("gguf", "llama", ["llama"]))
        self.assertTrue(model.details.parameter_size and model.details.quantization_level)

    def test_show(self):
        shown = client.show("tiny-chat")
        self.assertEqual(shown.modelinfo["general.architecture"], "llama")
        self.assertEqual(shown.modelinfo["llama.context_length"], 32768)
        self.assertIn("im_start", shown.template)
        self.assertTrue({"completion", "tools", "insert"} <= set(shown.capabilities))
        self.assertIn("thinking", client.show("tiny-think").capabilities)

    def test_version(self):
        request = urllib.request.Request(URL + "/api/version", headers=HEADERS)
        self.assertRegex(json.load(urllib.request.urlopen(request))["version"], r"^0\.\d+\.\d+$")
        for method in ("GET", "HEAD"):
            request = urllib.request.Request(URL + "/", headers=HEADERS, method=method)
            self.assertEqual(urllib.request.urlopen(request).status, 200)

    def test_what_would_change_the_store_is_off(self):
        for words, ask in (
            ("--manage", lambda: client.pull("nowhere")),
            ("--manage", lambda: client.copy("tiny-chat", "other")),
            ("--manage", lambda: client.delete("tiny-chat")),
            ("sends none away", lambda: client.push("tiny-chat")),
            ("makes no models", lambda: client.create("other", from_="tiny-chat")),
        ):
            with self.assertRaises(ollama.ResponseError) as caught:
                ask()
            self.assertEqual(caught.exception.status_code, 403)
            self.assertIn(words, caught.exception.error)
        self.assertEqual(client.pull("tiny-chat").status, "success")


class Embed(unittest.TestCase):
    def test_vectors(self):
        answer = client.embed("tiny-chat", ["one", "two", "one"])
        self.assertEqual(len(answer.embeddings), 3)
        self.assertEqual(answer.embeddings[0], answer.embeddings[2])
        self.assertAlmostEqual(math.hypot(*answer.embeddings[1]), 1, places=5)
        self.assertEqual(client.embed("tiny-chat", "two").embeddings[0], answer.embeddings[1])
        self.assertEqual(client.embeddings("tiny-chat", "two").embedding, answer.embeddings[1])
        self.assertEqual(len(client.embed("tiny-chat", "two", dimensions=8).embeddings[0]), 8)
        self.assertGreater(answer.prompt_eval_count, 0)
        self.assertEqual(client.embed("tiny-chat", []).embeddings, [])
        with self.assertRaises(ollama.ResponseError) as caught:
            client.embed("tiny-chat", "two", dimensions=1_000_000)
        self.assertEqual(caught.exception.status_code, 400)

    def test_a_long_text(self):
        long = "harbour " * 40_000
        self.assertEqual(len(client.embed("tiny-chat", long).embeddings), 1)
        with self.assertRaises(ollama.ResponseError) as caught:
            client.embed("tiny-chat", long, truncate=False)
        self.assertEqual(caught.exception.status_code, 400)


class Errors(unittest.TestCase):
    def test_unknown_models(self):
        for ask in (lambda: chat(model="nowhere"), lambda: generate(model="nowhere"), lambda: client.show("nowhere"), lambda: client.embed("nowhere", "a")):
            with self.assertRaises(ollama.ResponseError) as caught:
                ask()
            self.assertEqual((caught.exception.status_code, caught.exception.error), (404, "model 'nowhere' not found"))
        with self.assertRaises(ollama.ResponseError):
            list(chat(model="nowhere", stream=True))

    def test_bad_bodies(self):
        for path, body in {
            "/api/chat": '{"messages": []}', "/api/generate": "", "/api/show": "[]", "/api/embed": '{"model": "tiny-chat", "input": 5}',
            "/api/embeddings": '{"model": 5}', "/api/pull": "x",
        }.items():
            status, _, text = post(path, body)
            self.assertEqual(status, 400, path)
            self.assertIsInstance(json.loads(text)["error"], str)
        for body in (
            {"format": "xml"}, {"options": {"temperature": "hot"}}, {"think": "much"}, {"logprobs": True, "top_logprobs": 21},
            {"messages": [{"role": "robot", "content": "x"}]}, {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        ):
            status, _, text = post("/api/chat", json.dumps({"model": "tiny-chat", "messages": USER, **body}))
            self.assertEqual(status, 400, body)

    def test_an_over_long_prompt_is_never_cut(self):
        for more in ({}, {"truncate": True}):
            body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "harbour " * 60_000}], **more}
            status, _, text = post("/api/chat", json.dumps(body))
            self.assertEqual(status, 400)
            self.assertIn("prompt is too long", text)

    def test_paths_and_methods(self):
        self.assertEqual(post("/api/nowhere", "{}")[0], 404)
        self.assertIn(post("/api/tags", "{}")[0], (404, 405))


if __name__ == "__main__":
    unittest.main()
