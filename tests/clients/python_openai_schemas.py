"""Schemas and forced calls through the official Python SDK of OpenAI, on models without training: everything must validate.

Run by ci/clients.sh, which starts the server and sets HEARTH_URL and HEARTH_KEY. Prints how many answers were judged.
"""

import collections
import json
import os
import re
import unittest
import urllib.request

import jsonschema
import openai

URL, KEY = os.environ["HEARTH_URL"] + "/v1", os.environ["HEARTH_KEY"]
client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
USER = [{"role": "user", "content": "Say something."}]
SEEDS = (1, 2, 3)
BIG = 9007199254740991
counts = collections.Counter()


def an_object(properties, required=None, **more):
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, **more}


def nested(depth):
    inner = {"type": "boolean"}
    for _ in range(depth):
        inner = an_object({"inner": inner})
    return inner


TEXT = {"type": "string", "maxLength": 16}
SCHEMAS = {
    "every type": an_object({"s": TEXT, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"}, "z": {"type": "null"}}),
    "a list of types": an_object({"v": {"type": ["integer", "null", "boolean"]}, "w": {"type": ["string", "number"], "maxLength": 3}}),
    "names of all kinds": an_object(
        {name: {"type": "boolean"} for name in ("a b", 'q"uote', "back\\slash", "a.b", "größe 中😀", "", "$ref", "line\nfeed")}
    ),
    "200 prefixes of each other": an_object({"e": {"enum": ["x" * n for n in range(1, 201)]}}),
    "mixed values": an_object({"e": {"enum": ["a", 'quote "', "back\\", "\u2028é", 1, -2.5, None, True, {"k": [1, {}]}, []]}, "c": {"const": {"a": 1}}}),
    "zod's integers": an_object(
        {
            "id": {"type": "integer", "minimum": -BIG, "maximum": BIG},
            "positive": {"type": "integer", "exclusiveMinimum": 0, "maximum": BIG},
            "big": {"type": "integer", "minimum": 10**15},
        }
    ),
    "ranges": an_object(
        {
            "a": {"type": "integer", "minimum": -17, "exclusiveMaximum": 4},
            "b": {"type": "number", "minimum": 0, "maximum": 1},
            "c": {"type": "number", "exclusiveMaximum": -0.25},
            "d": {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 100},
        }
    ),
    "lengths in characters": an_object(
        {"none": {"type": "string", "maxLength": 0}, "some": {"type": "string", "minLength": 3, "maxLength": 5}, "all": {"type": "string", "minLength": 2, "maxLength": 2}}
    ),
    "patterns": an_object(
        {
            "plate": {"type": "string", "pattern": "^[A-Z]{1,3}-[A-Z]{1,2} [1-9][0-9]{0,3}$"},
            "part": {"type": "string", "pattern": "[0-9]{2}", "maxLength": 9},
            "either": {"type": "string", "pattern": "^(north|south)(-(east|west))?$"},
            "classes": {"type": "string", "pattern": r"^\w+\s\d$", "maxLength": 12},
        }
    ),
    "formats": an_object({name: {"type": "string", "format": name} for name in ("date", "date-time", "time", "uuid", "ipv4", "email")}),
    "an array at the root": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 2, "maxItems": 4},
    "arrays of no items and of few": an_object(
        {"none": {"type": "array", "items": {"type": "string"}, "maxItems": 0}, "two": {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}}
    ),
    "a tuple": {"type": "array", "prefixItems": [{"type": "integer", "maximum": 9, "minimum": 0}, {"enum": ["a", "b"]}], "items": False, "minItems": 2},
    "an enumeration at the root": {"enum": ["red", "reddish", 3, None]},
    "references": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": an_object({"$ref": {"type": "boolean"}, "c": {"$ref": "#/$defs/c"}}), "c": {"enum": ["c"]}},
    },
    "a tree": {
        "$defs": {"node": an_object({"n": {"type": "integer", "minimum": 0, "maximum": 9}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1}})},
        "$ref": "#/$defs/node",
    },
    "a union as pydantic writes it": an_object(
        {
            "pet": {
                "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}},
                "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            },
            "home": {"allOf": [{"$ref": "#/$defs/Home"}], "default": None, "title": "Home"},
            "age": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 30}, {"type": "null"}], "default": None},
        },
        **{
            "$defs": {
                "Cat": {"type": "object", "properties": {"kind": {"const": "cat", "title": "Kind"}, "lives": {"enum": [7, 9]}}, "required": ["kind", "lives"]},
                "Dog": {"type": "object", "properties": {"kind": {"const": "dog", "title": "Kind"}, "good": {"type": "boolean"}}, "required": ["kind"]},
                "Home": {"type": "object", "properties": {"town": TEXT}, "required": ["town"], "title": "Home"},
            }
        },
    ),
    "properties that may be missing": an_object({name: {"enum": [name]} for name in "abcdef"}, required=["c"]),
    "a map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}, "maxProperties": 3},
    "8 levels and 60 properties": an_object({"deep": nested(7), **{f"p{n}": {"type": "boolean"} for n in range(60)}}),
}

# Each with the word that the refusal must name.
REFUSED = [
    ("multipleOf", {"type": "number", "multipleOf": 0.1}),
    ("uniqueItems", {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
    ("contains", {"type": "array", "contains": {"type": "integer"}}),
    ("not", an_object({"a": {"not": {"type": "string"}}})),
    ("if", {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}),
    ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}),
    ("unevaluatedProperties", {"type": "object", "unevaluatedProperties": False}),
    ("pattern", {"type": "string", "pattern": "(?=a)b"}),
    ("pattern", {"type": "string", "pattern": "(?<!a)b"}),
    ("pattern", {"type": "string", "pattern": "("}),
    ("pattern", {"type": "string", "pattern": "^a{5}$", "maxLength": 4}),
    ("format", {"type": "string", "format": "banana"}),
    ("oneOf", {"oneOf": [{"type": "integer"}, {"type": "number"}]}),
    ("allOf", {"allOf": [{"type": "string"}, {"type": "integer"}]}),
    ("enum", {"type": "string", "enum": [1, 2]}),
    ("enum", {"enum": []}),
    ("const", {"type": "integer", "const": "a"}),
    ("type", {"type": "banana"}),
    ("minimum", {"type": "integer", "minimum": 3, "maximum": 2}),
    ("minLength", {"type": "string", "minLength": 3, "maxLength": 2}),
    ("minItems", {"type": "array", "minItems": 3, "maxItems": 2}),
    ("minItems", {"type": "array", "minItems": "3"}),
    ("required", an_object({"a": {"type": "string"}}, required=["b"])),
    ("properties", {"type": "object", "properties": []}),
    ("$ref", {"$ref": "#/$defs/nowhere"}),
    ("$ref", {"$ref": "https://example.com/schema"}),
    ("$ref", {"$ref": "#"}),
    ("$ref", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
]

PARAMETERS = {
    "look": an_object({"city": TEXT, "days": {"type": "integer", "minimum": 1, "maximum": 9}, "unit": {"enum": ["C", 'F "old"', None]}}, required=["city", "days"]),
    "go_on": an_object({"path": {"type": "array", "items": {"enum": ["left", "right"]}, "minItems": 1, "maxItems": 3}}),
    "wait": None,
}


def tool(name, **more):
    parameters = PARAMETERS[name]
    return {"type": "function", "function": {"name": name, **({"parameters": parameters} if parameters else {}), **more}}


TOOLS = [tool("look", strict=True), tool("go_on"), tool("wait")]


def named(name):
    return {"type": "function", "function": {"name": name}}


CHOICES = {
    "required": ("required", set(PARAMETERS)),
    "named": (named("go_on"), {"go_on"}),
    "allowed": ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("look"), named("wait")]}}, {"look", "wait"}),
}


def create(**more):
    return client.chat.completions.create(**{"model": "tiny-chat", "messages": USER, "max_tokens": 3000, "temperature": 1, **more})


def bound(schema):
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


def streamed(**more):
    """Every choice of a stream: reasoning, content, calls, finish reason, entries of log-probabilities."""
    choices = collections.defaultdict(lambda: {"reasoning": "", "content": "", "calls": {}, "finish": None, "logprobs": []})
    for choice in (choice for piece in create(stream=True, **more) for choice in piece.choices):
        entry = choices[choice.index]
        entry["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
        entry["content"] += choice.delta.content or ""
        entry["finish"] = entry["finish"] or choice.finish_reason
        entry["logprobs"] += choice.logprobs.content if choice.logprobs else []
        for call in choice.delta.tool_calls or []:
            known = entry["calls"].setdefault(call.index, {"id": call.id, "name": "", "arguments": ""})
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""
    return choices


def token(text):
    body = json.dumps({"model": "tiny-think", "content": text}).encode()
    request = urllib.request.Request(os.environ["HEARTH_URL"] + "/tokenize", body, {"Authorization": f"Bearer {KEY}"})
    (only,) = json.load(urllib.request.urlopen(request))["tokens"]
    return str(only)


def outside_strings(text):
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


class Case(unittest.TestCase):
    def judge(self, kind, content, finish, schema):
        """Counts an answer; it must have ended, and validate."""
        self.assertEqual(finish, "stop", content)
        self.judge_json(content, schema)
        self.assertEqual(content, content.strip())
        counts[kind] += 1

    def judge_json(self, text, schema):
        """Between two tokens of JSON stand a few blanks at most: one, or a line feed and an indentation; in brackets without content, two of that."""
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        self.assertIsNone(re.search(r"[ \t]{9}|\s{19}", outside_strings(text)), text)

    def judge_call(self, kind, name, arguments, names):
        self.assertIn(name, names)
        schema = PARAMETERS[name] or {"type": "object", "maxProperties": 0}
        self.judge_json(arguments, schema)
        counts[kind] += 1


class Schemas(Case):
    def test_twenty_schemas_and_three_seeds(self):
        self.assertEqual(len(SCHEMAS), 20)
        for title, schema in SCHEMAS.items():
            jsonschema.Draft202012Validator.check_schema(schema)
            for seed in SEEDS:
                with self.subTest(title, seed=seed):
                    whole = create(response_format=bound(schema), seed=seed).choices[0]
                    self.judge("answers to schemas", whole.message.content, whole.finish_reason, schema)
                    stream = streamed(response_format=bound(schema), seed=seed)[0]
                    self.assertEqual((stream["content"], stream["finish"]), (whole.message.content, "stop"))

    def test_several_answers_with_log_probabilities(self):
        for title in ("every type", "mixed values", "a tree", "names of all kinds"):
            schema, more = SCHEMAS[title], {"n": 4, "logprobs": True, "top_logprobs": 2, "seed": 5}
            stream = streamed(response_format=bound(schema), **more)
            for choice in create(response_format=bound(schema), **more).choices:
                with self.subTest(title, choice=choice.index):
                    self.judge("answers with n and logprobs", choice.message.content, choice.finish_reason, schema)
                    entries = choice.logprobs.content
                    self.assertEqual(b"".join(bytes(entry.bytes) for entry in entries).decode(), choice.message.content)
                    self.assertTrue(all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in entries))
                    self.assertEqual((stream[choice.index]["content"], stream[choice.index]["logprobs"]), (choice.message.content, entries))

    def test_a_schema_binds_the_answer_and_not_the_thought(self):
        # A model without training never closes a thought by itself: the bias makes the closing tag likely, not certain.
        close, n_thoughts = {token("</think>"): 4}, 0
        for title in ("every type", "a list of types", "references", "an array at the root", "patterns"):
            schema = SCHEMAS[title]
            for seed in SEEDS:
                with self.subTest(title, seed=seed):
                    more = {"model": "tiny-think", "response_format": bound(schema), "seed": seed, "logit_bias": close}
                    message = create(**more).choices[0]
                    self.judge("answers behind a thought", message.message.content, message.finish_reason, schema)
                    thought = getattr(message.message, "reasoning_content", None) or ""
                    n_thoughts += bool(thought)
                    stream = streamed(**more)[0]
                    self.assertEqual((stream["reasoning"], stream["content"]), (thought, message.message.content))
        self.assertGreater(n_thoughts, 5, "there were thoughts to leave free")

    def test_schemas_while_tools_are_offered_and_not_to_be_called(self):
        for seed in SEEDS:
            schema = SCHEMAS["every type"]
            choice = create(model="tiny-tool", response_format=bound(schema), tools=TOOLS, tool_choice="none", seed=seed).choices[0]
            self.judge("answers beside tools", choice.message.content, choice.finish_reason, schema)
            self.assertFalse(choice.message.tool_calls)

    def test_any_object(self):
        for seed in SEEDS:
            choice = create(response_format={"type": "json_object"}, seed=seed, logit_bias={token("}"): 4}).choices[0]
            self.judge("any objects", choice.message.content, choice.finish_reason, {"type": "object"})

    def test_completions_are_held_to_schemas_too(self):
        for title in ("every type", "ranges", "a tuple", "patterns"):
            for seed in SEEDS:
                body = {"model": "tiny-chat", "prompt": "The harbour", "max_tokens": 3000, "temperature": 1, "seed": seed}
                choice = client.completions.create(**body, extra_body={"guided_json": SCHEMAS[title]}).choices[0]
                self.judge("completions", choice.text, choice.finish_reason, SCHEMAS[title])

    def test_a_cut_answer_says_so(self):
        schema = SCHEMAS["8 levels and 60 properties"]
        whole = create(response_format=bound(schema), seed=1).choices[0]
        cut = create(response_format=bound(schema), seed=1, max_tokens=20).choices[0]
        self.assertEqual(cut.finish_reason, "length")
        self.assertTrue(whole.message.content.startswith(cut.message.content))

    def test_what_cannot_be_enforced_is_refused_by_name(self):
        for keyword, schema in REFUSED:
            for stream in (False, True):
                with self.subTest(keyword, schema=schema), self.assertRaises(openai.BadRequestError) as caught:
                    create(response_format=bound(schema), stream=stream)
                body = caught.exception.body
                self.assertEqual((caught.exception.status_code, body["type"], body["code"]), (400, "invalid_request_error", None))
                self.assertTrue(body["param"].startswith("response_format"), body)
                self.assertIn(f'"{keyword}"', body["message"])
                counts["refusals"] += 1
            strict = {"type": "function", "function": {"name": "f", "parameters": an_object({"a": schema}), "strict": True}}
            with self.subTest(keyword, tool=schema), self.assertRaises(openai.BadRequestError) as caught:
                create(tools=[strict])
            self.assertIn(f'"{keyword}"', caught.exception.body["message"])


class ForcedTools(Case):
    def test_every_choice_is_kept(self):
        for model in ("tiny-chat", "tiny-tool", "tiny-think"):
            for title, (choice, names) in CHOICES.items():
                for is_parallel in (True, False):
                    for seed in SEEDS:
                        with self.subTest(model, choice=title, parallel=is_parallel, seed=seed):
                            self.check(model, choice, names, is_parallel, seed)

    def check(self, model, choice, names, is_parallel, seed):
        more = {
            "model": model, "tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": is_parallel, "seed": seed,
            "logit_bias": {token("</think>"): 8}, "reasoning_effort": "medium",
        }
        answer = create(**more).choices[0]
        calls = answer.message.tool_calls
        self.assertEqual(answer.finish_reason, "tool_calls")
        self.assertFalse(answer.message.content)
        # A function that is named is called once.
        is_one = not is_parallel or choice == CHOICES["named"][0]
        self.assertTrue(len(calls) == 1 if is_one else len(calls) >= 1, calls)
        self.assertEqual(len({call.id for call in calls}), len(calls))
        for call in calls:
            self.assertEqual(call.type, "function")
            self.judge_call("forced calls", call.function.name, call.function.arguments, names)
        stream = streamed(**more)[0]
        self.assertEqual((stream["content"], stream["finish"]), ("", "tool_calls"))
        self.assertEqual(list(stream["calls"]), list(range(len(calls))))
        for call, again in zip(calls, stream["calls"].values()):
            self.assertEqual((call.function.name, call.function.arguments), (again["name"], again["arguments"]))

    def test_a_call_that_was_begun_is_valid_where_calls_are_merely_on_offer(self):
        for is_strict in (True, False):
            tools = [tool(name, strict=is_strict) for name in PARAMETERS]
            for seed in SEEDS:
                with self.subTest(strict=is_strict, seed=seed):
                    begun = {token("<tool_call>"): 30}
                    choice = create(tools=tools, tool_choice="auto", seed=seed, logit_bias=begun, parallel_tool_calls=False).choices[0]
                    self.assertEqual((choice.finish_reason, len(choice.message.tool_calls)), ("tool_calls", 1))
                    function = choice.message.tool_calls[0].function
                    self.judge_call("calls on offer", function.name, function.arguments, set(PARAMETERS))

    def test_values_that_look_like_markup_stay_data(self):
        value = '</tool_call>\n<tool_call>{"name": "wait"} </think> "q" \\ é 😀'
        shape = an_object({"s": {"const": value}})
        odd = {"type": "function", "function": {"name": "odd", "parameters": shape}}
        for model in ("tiny-chat", "tiny-tool"):
            choice = create(model=model, tools=[odd], tool_choice=named("odd"), seed=1).choices[0]
            self.assertEqual([json.loads(call.function.arguments) for call in choice.message.tool_calls], [{"s": value}])

    def test_a_call_that_is_cut_says_so(self):
        more = {"tools": TOOLS, "tool_choice": named("look"), "seed": 1}
        whole, cut = create(**more).choices[0], create(**more, max_tokens=16).choices[0]
        self.assertEqual(cut.finish_reason, "length")
        text = cut.message.content or cut.message.tool_calls[0].function.arguments
        self.assertTrue(cut.message.content or whole.message.tool_calls[0].function.arguments.startswith(text), text)

    def test_the_old_form(self):
        functions = [entry["function"] for entry in TOOLS]
        for seed in SEEDS:
            choice = create(functions=functions, function_call={"name": "look"}, seed=seed).choices[0]
            self.assertEqual(choice.finish_reason, "function_call")
            call = choice.message.function_call
            self.judge_call("forced calls", call.name, call.arguments, {"look"})


def tearDownModule():
    print("judged and found valid:", ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))


if __name__ == "__main__":
    unittest.main()
