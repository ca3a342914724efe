"""Writes schemas.json: schemas that must be enforced, and schemas that must be refused.

python3 generate.py > schemas.json     (pydantic 2.13 for the section of that name)
"""

import datetime
import enum
import ipaddress
import json
import uuid
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, conint, conlist, constr

good, bad = [], []


def ok(name, schema):
    good.append({"name": name, "schema": schema})


def no(name, schema, keyword):
    bad.append({"name": name, "schema": schema, "keyword": keyword})


def obj(properties, required=None, **more):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


S, I, N, B, Z = ({"type": t} for t in ("string", "integer", "number", "boolean", "null"))

# Types.
for t in ("string", "integer", "number", "boolean", "null", "array", "object"):
    ok(f"type {t}", {"type": t})
ok("type list", {"type": ["string", "null"]})
ok("all types", {"type": ["string", "null", "integer", "boolean", "array", "object", "number"]})
ok("no type", {})
ok("true inside", obj({"a": True}))
ok("type integer and number", {"type": ["integer", "number"], "minimum": 3})

# Names.
for n in ["a b", 'q"uote', "back\\slash", "a.b.c", "\u00e9\u00df\u4e2d\U0001f600", "", "$ref", "a/b~c", "line\nfeed", "\u0001", "type", "enum", "'", "{", "%", "tab\t"]:
    ok(f"name {n!r}", obj({n: I}))
ok("names all", obj({n: B for n in ["a b", 'q"', "b\\", ".", "\u4e2d", "", "$ref", "a", "ab", "abc"]}))
ok("name $defs", obj({"$defs": S, "properties": I}))

# Values.
ok("enum strings", {"enum": ["a", "b", "c"]})
ok("enum prefixes", {"enum": ["a", "ab", "abc", "abcd", "b", "bab"]})
ok("enum escapes", {"enum": ['"', "\\", "\n", "\t", "\u0001", "\u007f", "\u2028", "\ud7ff", "\U0001f600", "</tool_call>", "{\"a\":1}"]})
ok("enum mixed", {"enum": [1, 1.5, "1", None, True, [], {}, [1, "a"], {"a": [1]}]})
ok("enum 200", {"enum": [f"value {i:03} of many" for i in range(200)]})
ok("enum 200 prefixes", {"enum": ["x" * i for i in range(1, 201)]})
ok("enum numbers", {"enum": [1, 12, 123, -1, -12, 0, 1.25, 10000000000]})
ok("enum against type", {"type": "string", "enum": ["a", 1, None, "b"]})
ok("enum against length", {"type": "string", "maxLength": 2, "enum": ["a", "abc"]})
ok("enum against range", {"type": "integer", "minimum": 5, "enum": [1, 5, 9, 5.5]})
ok("enum with pattern", {"type": "string", "pattern": "^a", "enum": ["ab", "ba"]})
ok("enum and const", {"enum": ["a", "b"], "const": "b"})
ok("const object", {"const": {"a": [1, 2, {"b": None}]}})
ok("const string", {"const": "a \"quoted\" \\ text\n"})
ok("const 1.0", {"type": "integer", "const": 1.0})
ok("const empty", obj({"a": {"const": ""}, "b": {"const": 0}, "c": {"const": None}}))

# Integers.
for lo, hi in [(0, 0), (0, 9), (1, 10), (-5, 5), (-1000, -1), (99, 101), (0, 255), (-128, 127), (-2147483648, 2147483647),
               (-9007199254740991, 9007199254740991), (-9223372036854775808, 9223372036854775807), (7, 7), (95, 1234), (-1234, -95), (999999, 1000001)]:
    ok(f"integer {lo} {hi}", {"type": "integer", "minimum": lo, "maximum": hi})
for lo in (-9007199254740991, -1, 0, 1, 18, 1000, 10**15, 10**17, 18446744073709551615):
    ok(f"integer from {lo}", {"type": "integer", "minimum": lo})
for hi in (-10**17, -1, 0, 1, 18, 10**15, 9007199254740991):
    ok(f"integer to {hi}", {"type": "integer", "maximum": hi})
ok("integer above 0", {"type": "integer", "exclusiveMinimum": 0})
ok("integer between", {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 2})
ok("integer both kinds", {"type": "integer", "minimum": 3, "exclusiveMinimum": 1, "maximum": 30, "exclusiveMaximum": 8})
ok("integer fractional bounds", {"type": "integer", "minimum": 0.5, "maximum": 3.5})
ok("integer draft 4", {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 4})
ok("integer of 3", {"type": "integer", "multipleOf": 3})
ok("integer of 7 in range", {"type": "integer", "multipleOf": 7, "minimum": -20, "maximum": 50})
ok("integer of 1", {"type": "integer", "multipleOf": 1})
ok("number of 5", {"type": "number", "multipleOf": 5})
ok("number of 0.5", {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10})
ok("number of 0.25", {"type": "number", "multipleOf": 0.25})
ok("int32", {"type": "integer", "format": "int32"})

# Numbers.
for lo, hi in [(0, 1), (0.0, 0.5), (-1.5, 1.5), (1.25, 1.75), (-0.001, 0), (99.5, 1000.25), (-1e3, -1e-3), (0.1, 0.30000000000000004), (5, 5), (-1e10, 1e10)]:
    ok(f"number {lo} {hi}", {"type": "number", "minimum": lo, "maximum": hi})
for lo in (-2.5, 0, 0.001, 3, 1e6):
    ok(f"number from {lo}", {"type": "number", "minimum": lo})
    ok(f"number above {lo}", {"type": "number", "exclusiveMinimum": lo})
for hi in (-2.5, 0, 0.001, 3, 1e6):
    ok(f"number to {hi}", {"type": "number", "maximum": hi})
    ok(f"number below {hi}", {"type": "number", "exclusiveMaximum": hi})
ok("number between", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
ok("number below 1000", {"type": "number", "minimum": 999, "exclusiveMaximum": 1000})
ok("number to 1e300", {"type": "number", "maximum": 1e300})

# Strings.
for lo, hi in [(0, 0), (1, 1), (0, 3), (2, 4), (5, 5), (3, None), (None, 7), (10, 20)]:
    ok(f"length {lo} {hi}", {"type": "string", **({} if lo is None else {"minLength": lo}), **({} if hi is None else {"maxLength": hi})})
ok("length 1000", {"type": "string", "maxLength": 1000})
ok("length 100000", {"type": "string", "maxLength": 100000})
for p in [r"^[a-z]+$", r"^[A-Z]{3}-[0-9]{4}$", r"^(cat|dog|bird)$", r"^\d{3}-\d{2}-\d{4}$", r"^\w+$", r"^\s$", r"[0-9]", r"^a", r"z$", r"^(a|b)*c$", r"^[^\n\"\\]{1,5}$",
          r"^#[0-9a-fA-F]{6}$", r"^\+?[1-9]\d{1,14}$", r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$", r"^[\w.+-]+@[\w-]+\.[\w.]+$", r"^\u00e9+$", r"^.{2,4}$", r"^$", r"^(?:x|y){2}$",
          r"^[\s\S]{0,3}$", r"^a|b$", r"(^a$)|(^b$)", r"^\\$", r"^\"$", r"^[/]$", r"^a{2,}$", r"^\S+$", r"^\D{2}$", r"^[^\d]{2}$", r"^\W$", r"^(?<year>\d{4})$", r"^\p{L}+$", r"^[\p{Lu}0-9]{2}$",
          r"^v\d+\.\d+\.\d+(-[a-z]+)?$", r"^[a-zA-Z_][a-zA-Z0-9_]*$", r"^https?://[a-z]+\.com$"]:
    ok(f"pattern {p}", {"type": "string", "pattern": p})
ok("pattern with lengths", {"type": "string", "pattern": "^[a-z]*$", "minLength": 3, "maxLength": 5})
ok("pattern in the middle with lengths", {"type": "string", "pattern": "ab", "maxLength": 4})
for f in ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "uri", "duration"]:
    ok(f"format {f}", {"type": "string", "format": f})
ok("format and length", {"type": "string", "format": "email", "maxLength": 12})
ok("format password", {"type": "string", "format": "password", "maxLength": 5})

# Arrays.
ok("array of integers", {"type": "array", "items": I})
for lo, hi in [(0, 0), (1, 1), (0, 3), (2, 4), (3, None), (None, 2), (7, 9), (0, 10), (13, 13)]:
    ok(f"items {lo} {hi}", {"type": "array", "items": B, **({} if lo is None else {"minItems": lo}), **({} if hi is None else {"maxItems": hi})})
ok("items 30000", {"type": "array", "items": B, "maxItems": 30000})
ok("items false", {"type": "array", "items": False})
ok("tuple", {"type": "array", "prefixItems": [I, S, B], "items": False, "minItems": 3})
ok("tuple optional", {"type": "array", "prefixItems": [I, B, Z], "items": False})
ok("tuple partly", {"type": "array", "prefixItems": [I, B, Z], "items": False, "minItems": 1, "maxItems": 2})
ok("tuple and more", {"type": "array", "prefixItems": [I, B], "items": Z, "minItems": 3, "maxItems": 5})
ok("tuple and any", {"type": "array", "prefixItems": [I], "minItems": 1, "maxItems": 2})
ok("tuple more optional", {"type": "array", "prefixItems": [I, B], "items": Z})
ok("tuple draft 7", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [I, B], "additionalItems": False})
ok("tuple with false", {"type": "array", "prefixItems": [I, False], "items": True})
ok("nested arrays", {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": I, "maxItems": 2}, "maxItems": 2}, "maxItems": 2})
ok("unique of one", {"type": "array", "items": I, "uniqueItems": True, "maxItems": 1})
ok("not unique", {"type": "array", "items": I, "uniqueItems": False})

# Objects.
ok("empty object", {"type": "object", "properties": {}, "additionalProperties": False})
ok("open object", {"type": "object", "properties": {"a": I}})
ok("open object required", {"type": "object", "properties": {"a": I}, "required": ["a"]})
ok("required without property", {"type": "object", "required": ["a", "b"]})
ok("required beside property", {"type": "object", "properties": {"a": I}, "required": ["b"]})
ok("required and additional", {"type": "object", "properties": {"a": I}, "required": ["a", "b"], "additionalProperties": B})
for i in range(8):
    ok(f"optional {i}", obj({"a": I, "b": B, "c": Z}, [n for k, n in enumerate("abc") if i >> k & 1]))
ok("60 properties", obj({f"property_{i}": [I, B, Z, {"enum": ["x", "y"]}][i % 4] for i in range(60)}))
ok("60 optional", obj({f"property_{i}": [I, B, Z, {"enum": ["x", "y"]}][i % 4] for i in range(60)}, []))
ok("map", {"type": "object", "additionalProperties": I})
ok("map max", {"type": "object", "additionalProperties": I, "maxProperties": 3})
ok("map min", {"type": "object", "additionalProperties": I, "minProperties": 2, "maxProperties": 4})
ok("map exactly", {"type": "object", "additionalProperties": B, "minProperties": 3, "maxProperties": 3})
ok("map and properties", {"type": "object", "properties": {"a": I, "b": B}, "required": ["a"], "additionalProperties": S, "maxProperties": 4})
ok("map true", {"type": "object", "properties": {"a": I}, "additionalProperties": True, "maxProperties": 3})
ok("at least one", obj({"a": I, "b": B, "c": Z}, [], minProperties=1))
ok("exactly one", obj({"a": I, "b": B, "c": Z}, [], minProperties=1, maxProperties=1))
ok("two of three", obj({"a": I, "b": B, "c": Z}, [], minProperties=2, maxProperties=2))
ok("two with one required", obj({"a": I, "b": B, "c": Z}, ["b"], minProperties=2))
ok("pattern properties", {"type": "object", "patternProperties": {"^n_": I, "^b_": B}, "additionalProperties": False, "maxProperties": 3})
ok("pattern and properties", {"type": "object", "properties": {"n_a": {"minimum": 3}, "x": B}, "required": ["n_a"], "patternProperties": {"^n_": I}, "additionalProperties": False, "maxProperties": 3})
ok("pattern and additional", {"type": "object", "patternProperties": {"^n_": I}, "additionalProperties": B, "minProperties": 1, "maxProperties": 3})
ok("property names", {"type": "object", "propertyNames": {"pattern": "^[a-c]{1,2}$"}, "additionalProperties": I, "minProperties": 1, "maxProperties": 3})
ok("property names type", {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": I, "maxProperties": 3})
ok("property names enum", {"type": "object", "propertyNames": {"enum": ["x", "y", "z"]}, "additionalProperties": I})
ok("property names drop", {"type": "object", "properties": {"a": I, "long": B}, "propertyNames": {"maxLength": 2}, "additionalProperties": False})
ok("property false", obj({"a": I, "b": False}, ["a"]))

# Nesting.
deep = I
for i in range(8):
    deep = obj({"level": deep, "n": B})
ok("8 levels", deep)
deep = B
for i in range(8):
    deep = {"type": "array", "items": deep, "minItems": 1, "maxItems": 2}
ok("8 arrays", deep)

# References.
ok("ref", {"$defs": {"a": I}, **obj({"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"}})})
ok("ref chain", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": B}, "$ref": "#/$defs/a"})
ok("ref root", {"$ref": "#/$defs/a", "$defs": {"a": obj({"n": I})}})
ok("ref definitions", {"definitions": {"a b/c~d%": I}, **obj({"x": {"$ref": "#/definitions/a%20b~1c~0d%25"}})})
ok("ref to property", obj({"a": I, "b": {"$ref": "#/properties/a"}}))
ok("ref with siblings", {"$defs": {"a": {"type": "integer", "minimum": 0}}, **obj({"x": {"$ref": "#/$defs/a", "maximum": 5, "description": "d"}})})
ok("recursion tree", {"$defs": {"node": obj({"v": B, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}})}, "$ref": "#/$defs/node"})
ok("recursion list", obj({"v": B, "next": {"anyOf": [{"$ref": "#"}, Z]}}))
ok("recursion optional", {"type": "object", "properties": {"v": B, "next": {"$ref": "#"}}, "required": ["v"], "additionalProperties": False})
ok("recursion mutual", {"$defs": {"a": obj({"b": {"anyOf": [{"$ref": "#/$defs/b"}, Z]}}), "b": obj({"a": {"anyOf": [{"$ref": "#/$defs/a"}, Z]}})}, "$ref": "#/$defs/a"})
ok("recursion array", {"type": "array", "items": {"$ref": "#"}, "maxItems": 2})
ok("recursion through optional that never ends", {"type": "object", "properties": {"a": B, "self": {"$ref": "#/$defs/x"}}, "required": ["a"], "additionalProperties": False,
                                                  "$defs": {"x": obj({"x": {"$ref": "#/$defs/x"}})}})

# Combinations.
ok("anyOf types", {"anyOf": [I, S, Z]})
ok("anyOf objects", {"anyOf": [obj({"a": I}), obj({"b": B}), obj({"a": I, "b": B})]})
ok("anyOf with siblings", {"type": "object", "properties": {"a": I, "b": B}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": False})
ok("anyOf with false", {"anyOf": [False, I]})
ok("anyOf numbers", {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "number", "minimum": 100, "maximum": 200}]})
ok("oneOf types", {"oneOf": [I, S, Z, B, {"type": "array", "items": I}]})
ok("oneOf tagged", {"oneOf": [obj({"kind": {"const": "a"}, "x": I}), obj({"kind": {"const": "b"}, "x": B}), obj({"kind": {"enum": ["c", "d"]}})]})
ok("oneOf tagged, tag optional", {"oneOf": [obj({"kind": {"const": "a"}, "x": I}, ["x"]), obj({"kind": {"const": "b"}, "x": I}, ["x"])]})
ok("oneOf ranges", {"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 6}]})
ok("oneOf enums", {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["c", 1]}]})
ok("oneOf keys", {"oneOf": [obj({"a": I}), obj({"b": I})]})
ok("oneOf patterns", {"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]})
ok("oneOf nullable", obj({"a": {"oneOf": [{"type": "integer"}, {"type": "null"}]}}))
ok("allOf one ref", {"$defs": {"a": obj({"n": I})}, **obj({"x": {"allOf": [{"$ref": "#/$defs/a"}], "description": "d", "default": {"n": 1}}})})
ok("allOf ranges", {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]})
ok("allOf objects", {"allOf": [{"type": "object", "properties": {"a": I}, "required": ["a"]}, {"type": "object", "properties": {"b": B}, "required": ["b"]}]})
ok("allOf properties meet", {"allOf": [{"type": "object", "properties": {"a": {"minimum": 2}}}, {"properties": {"a": {"type": "integer", "maximum": 5}}, "required": ["a"], "additionalProperties": False}]})
ok("allOf strings", {"allOf": [{"type": "string", "minLength": 2}, {"maxLength": 4}, {"pattern": "^[ab]*$"}]})
ok("allOf arrays", {"allOf": [{"type": "array", "items": {"type": "integer"}, "minItems": 1}, {"items": {"minimum": 0, "maximum": 9}, "maxItems": 3}]})
ok("allOf enum", {"allOf": [{"enum": [1, 2, 3, "a"]}, {"type": "integer"}, {"minimum": 2}]})
ok("allOf anyOf", {"allOf": [{"anyOf": [I, S]}, {"anyOf": [{"type": "string", "maxLength": 2}, Z]}]})
ok("allOf recursion at a distance", {"$defs": {"base": {"type": "object", "properties": {"id": I}, "required": ["id"]}},
                                     "allOf": [{"$ref": "#/$defs/base"}, {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/base"}, "maxItems": 1}}, "required": ["kids"]}]})
ok("not never", obj({"a": I, "b": {"not": {}}}, ["a"]))
ok("untyped words", {"properties": {"a": I}, "required": ["a"], "additionalProperties": False})
ok("untyped minimum", {"minimum": 5})
ok("annotations", {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "$comment": "c", "title": "t", "description": "d", "default": 1, "examples": [1], "deprecated": True, "readOnly": False,
                   "x-order": 1, "unknownWord": {"a": 1}, "type": "integer", "nullable": True, "contentMediaType": "text/plain"})
ok("dependentRequired empty", {"type": "integer", "dependentRequired": {}, "unevaluatedProperties": True})


# pydantic.
class Color(enum.Enum):
    red = "red"
    green = "green \"light\""
    blue = 3


class Address(BaseModel):
    street: str = Field(max_length=12)
    zip: constr(pattern=r"^\d{5}(-\d{4})?$")
    country: Literal["de", "fr", "us"] = "de"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: conint(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Bird(BaseModel):
    kind: Literal["bird"] = "bird"
    wings: int = 2


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"
    fins: int = 2


class Person(BaseModel):
    """A person."""

    name: str = Field(min_length=1, max_length=10, description="name", examples=["x"])
    age: Optional[int] = Field(default=None, ge=0, lt=150)
    email: Annotated[str, Field(json_schema_extra={"format": "email"})] | None = None
    address: Address
    color: Color = Color.red
    tags: conlist(constr(max_length=3), min_length=1, max_length=3)
    score: float = Field(gt=0, le=1)
    born: datetime.date
    at: datetime.datetime | None = None
    id: uuid.UUID
    ip: ipaddress.IPv4Address | None = None


class Pet(BaseModel):
    pet: Union[Cat, Dog] = Field(discriminator="kind")


class Pets(BaseModel):
    pets: list[Annotated[Union[Bird, Fish], Field(discriminator="kind")]] = Field(max_length=2)


class Tree(BaseModel):
    value: int
    left: Optional["Tree"] = None
    right: Optional["Tree"] = None


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pair: tuple[int, bool]
    counts: dict[str, int] = Field(max_length=3)
    keyed: dict[Annotated[str, Field(pattern="^[a-z]{1,3}$")], bool] = Field(max_length=2)
    any: Any = None
    choice: int | bool | None
    nested: list[list[int]] = Field(max_length=1)


for model in (Address, Person, Pet, Pets, Tree, Strict):
    ok(f"pydantic {model.__name__}", model.model_json_schema())

# zod, as the AI SDK and opencode send it.
ok("zod int", {"$schema": "http://json-schema.org/draft-07/schema#", **obj({"n": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}})})
ok("zod above", obj({"n": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991}}))
ok("zod record", {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "string", "maxLength": 3}, "maxProperties": 2})
ok("zod tool", obj({"filePath": {"type": "string", "description": "d", "maxLength": 8}, "offset": {"description": "o", "type": "number"}, "limit": {"type": "number"}}, ["filePath"]))
ok("zod nullable", obj({"a": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}}))
ok("zod union", obj({"a": {"anyOf": [{"type": "string", "const": "x"}, {"type": "number", "const": 2}, {"type": "boolean"}]}}))
ok("zod todo", obj({"todos": {"type": "array", "maxItems": 2, "items": obj({"content": {"type": "string", "maxLength": 4}, "status": {"type": "string", "enum": ["pending", "done"]}})}}))

# What must be refused, with the word the error names.
no("multipleOf 0.1", {"type": "number", "multipleOf": 0.1}, "multipleOf")
no("multipleOf 0", {"type": "number", "multipleOf": 0}, "multipleOf")
no("multipleOf -1", {"type": "number", "multipleOf": -1}, "multipleOf")
no("uniqueItems", obj({"a": {"type": "array", "items": I, "uniqueItems": True}}), "uniqueItems")
no("contains", {"type": "array", "contains": I}, "contains")
no("minContains", {"type": "array", "minContains": 1}, "minContains")
no("not", {"not": {"type": "string"}}, "not")
no("if", {"if": {"type": "string"}, "then": {"minLength": 1}}, "if")
no("then", {"type": "object", "then": {"required": ["a"]}}, "then")
no("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired")
no("dependentSchemas", {"type": "object", "dependentSchemas": {"a": {}}}, "dependentSchemas")
no("dependencies", {"type": "object", "dependencies": {"a": ["b"]}}, "dependencies")
no("unevaluatedProperties", {"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties")
no("unevaluatedItems", {"type": "array", "unevaluatedItems": False}, "unevaluatedItems")
no("dynamicRef", {"$dynamicRef": "#node"}, "$dynamicRef")
no("recursiveRef", {"$recursiveRef": "#"}, "$recursiveRef")
no("look-ahead", {"type": "string", "pattern": "^(?=.*a).*$"}, "pattern")
no("look-behind", {"type": "string", "pattern": "(?<!a)b"}, "pattern")
no("back reference", {"type": "string", "pattern": r"^(a)\1$"}, "pattern")
no("word boundary", {"type": "string", "pattern": r"\bword\b"}, "pattern")
no("bad pattern", {"type": "string", "pattern": "(unclosed"}, "pattern")
no("bad pattern class", {"type": "string", "pattern": "[z-a]"}, "pattern")
no("pattern in properties", obj({"a": obj({"b": {"type": "string", "pattern": "*"}})}), "pattern")
no("pattern properties bad", {"type": "object", "patternProperties": {"(": I}}, "patternProperties")
no("pattern properties meet", {"type": "object", "patternProperties": {"a": I, "b": B}}, "patternProperties")
no("pattern and length", {"type": "string", "pattern": "^a{5}$", "maxLength": 3}, "pattern")
no("format unknown", {"type": "string", "format": "iri-reference"}, "format")
no("oneOf that meets", {"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf")
no("oneOf same", {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "oneOf")
no("allOf to nothing", {"allOf": [I, S]}, "allOf")
no("allOf ranges to nothing", {"allOf": [{"type": "integer", "minimum": 5}, {"maximum": 4}]}, "allOf")
no("type banana", {"type": "banana"}, "type")
no("type list banana", {"type": ["string", "banana"]}, "type")
no("type empty", {"type": []}, "type")
no("type number", {"type": 5}, "type")
no("enum empty", {"enum": []}, "enum")
no("enum no list", {"enum": "a"}, "enum")
no("enum against type empty", {"type": "integer", "enum": ["a"]}, "enum")
no("const against type", {"type": "integer", "const": "a"}, "const")
no("ref nowhere", {"$ref": "#/$defs/nothing"}, "$ref")
no("ref outside", {"$ref": "https://example.com/schema.json"}, "$ref")
no("ref file", {"$ref": "other.json#/a"}, "$ref")
no("ref circle", {"$ref": "#"}, "$ref")
no("ref circle of two", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "$ref")
no("ref circle in anyOf", {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, I]}}, "$ref": "#/$defs/a"}, "$ref")
no("ref without end", {"$defs": {"a": obj({"a": {"$ref": "#/$defs/a"}})}, "$ref": "#/$defs/a"}, "$ref")
no("ref no string", {"$ref": 5}, "$ref")
no("ref of itself merged", {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, I]}}, "$ref": "#/$defs/a"}, "allOf")
no("id inside", obj({"a": {"$id": "urn:a", "type": "integer"}}), "$id")
no("properties list", {"type": "object", "properties": []}, "properties")
no("properties of text", {"type": "object", "properties": {"a": "string"}}, "")
no("required text", {"type": "object", "required": "a"}, "required")
no("required numbers", {"type": "object", "required": [1]}, "required")
no("required boolean", obj({"a": {"type": "object", "required": True}}), "required")
no("required not allowed", {"type": "object", "properties": {"a": I}, "required": ["b"], "additionalProperties": False}, "required")
no("minLength text", {"type": "string", "minLength": "3"}, "minLength")
no("minLength negative", {"type": "string", "minLength": -1}, "minLength")
no("minLength fraction", {"type": "string", "minLength": 1.5}, "minLength")
no("minLength above maxLength", {"type": "string", "minLength": 4, "maxLength": 3}, "minLength")
no("minItems above maxItems", {"type": "array", "minItems": 4, "maxItems": 3}, "minItems")
no("minProperties above", {"type": "object", "minProperties": 4, "maxProperties": 3}, "minProperties")
no("minProperties too many", obj({"a": I}, [], minProperties=2), "minProperties")
no("maxProperties too few", obj({"a": I, "b": I}, maxProperties=1), "maxProperties")
no("empty range", {"type": "integer", "minimum": 5, "maximum": 4}, "minimum")
no("empty range exclusive", {"type": "number", "exclusiveMinimum": 5, "maximum": 5}, "exclusiveMinimum")
no("no integer between", {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "exclusiveMinimum")
no("minimum text", {"type": "integer", "minimum": "5"}, "minimum")
no("empty range in a property", obj({"a": {"type": "integer", "minimum": 5, "maximum": 4}}, []), "minimum")
no("anyOf empty", {"anyOf": []}, "anyOf")
no("anyOf object", {"anyOf": {}}, "anyOf")
no("anyOf of text", {"anyOf": ["string"]}, "")
no("anyOf of false", {"anyOf": [False]}, "anyOf")
no("allOf empty", {"allOf": []}, "allOf")
no("items text", {"type": "array", "items": "string"}, "")
no("prefixItems object", {"type": "array", "prefixItems": {}}, "prefixItems")
no("additionalProperties text", {"type": "object", "additionalProperties": "no"}, "")
no("propertyNames pattern bad", {"type": "object", "propertyNames": {"pattern": "("}}, "pattern")
no("extends", {"extends": {"type": "string"}}, "extends")
no("not everything", {"not": True}, "type")

lines = {key: ",\n".join(json.dumps(entry) for entry in entries) for key, entries in (("enforced", good), ("refused", bad))}
print("{" + ",\n".join(f'"{key}": [\n{text}\n]' for key, text in lines.items()) + "}")
