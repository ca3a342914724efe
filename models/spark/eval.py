"""Asks spark.gguf the held-out questions and counts whole-sentence, on-subject answers.

    python3 eval.py [--model FILE] [--url http://127.0.0.1:PORT] [--verbose]

The answers are greedy. The weights are read back from the GGUF file (rounded as they are there) and run
in PyTorch; with --url a running server with an OpenAI-style /v1/chat/completions is asked too, and any text
that differs from the one computed here is printed: an independent check of the file.

An answer counts as whole when it ended by itself, begins as a sentence does, ends with . ! or ?, and uses only words
that the corpus uses; as on-subject when it matches the expression in held_out.tsv.
"""

import argparse
import json
import re
import urllib.request
from collections import Counter
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer

from corpus import Corpus, read_lines, render
from model import Config, Spark
from tokenizer import SPECIAL
import tokenizer as spark_tokenizer

HERE = Path(__file__).parent
MAX_TOKENS = 200
LOWER_CASE_NAMES = ("hearth ",)  # a sentence may begin with the program's name, which has no capital


def read_model(path: Path) -> tuple[Spark, Tokenizer]:
    """Network and tokenizer from the GGUF file alone."""
    reader = gguf.GGUFReader(path)
    model = Spark(Config())
    state = model.state_dict()
    for tensor in reader.tensors:
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        name = tensor.name if tensor.name in state else tensor.name.removesuffix(".weight")
        state[name] = value.reshape(state[name].shape)
    model.load_state_dict(state)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    return model, spark_tokenizer.build(tokens, merges)


def answer_here(model: Spark, tokenizer: Tokenizer, question: str) -> tuple[str, bool]:
    prompt = "".join(text for text, _ in render([("user", question)])) + "<|im_start|>assistant\n"
    stop = {tokenizer.token_to_id(text) for text in SPECIAL}
    out = model.greedy(tokenizer.encode(prompt).ids, stop, MAX_TOKENS)
    return tokenizer.decode(out), len(out) < MAX_TOKENS


def answer_there(url: str, question: str) -> tuple[str, bool]:
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": MAX_TOKENS}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        choice = json.load(reply)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"] == "stop"


def known_words() -> set[str]:
    chats = Corpus().generate(5000, seed=99)
    text = " ".join(text for chat in chats for role, text in chat if role == "assistant")
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def is_whole(answer: str, ended: bool, words: set[str]) -> bool:
    begins = bool(re.match(r"[A-Z]", answer)) or answer.startswith(LOWER_CASE_NAMES)
    known = set(re.findall(r"[a-z0-9]+", answer.lower())) <= words
    return ended and begins and answer.endswith((".", "!", "?", '."')) and known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "spark.gguf")
    parser.add_argument("--url")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = read_model(args.model)
    words = known_words()
    tallies: dict[str, Counter] = {}
    for line in read_lines("held_out.tsv"):
        subject, question, expected = line.split("\t")
        tally = tallies.setdefault("blind questions" if subject == "blind" else "questions", Counter())
        answer, ended = answer_here(model, tokenizer, question)
        whole, on_subject = is_whole(answer, ended, words), bool(re.search(expected, answer, re.IGNORECASE))
        tally.update({"asked": 1, "whole": whole, "on subject": on_subject, "both": whole and on_subject})
        if args.url:
            there, _ = answer_there(args.url, question)
            tally["equal to the server's"] += there == answer
            if there != answer:
                print(f"DIFFERS {question}\n  here:  {answer}\n  there: {there}")
        if args.verbose or not (whole and on_subject):
            print(f"{'ok ' if whole and on_subject else 'BAD'} [{subject}] {question}\n     {answer}")
    for name, tally in tallies.items():
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in tally.items()))


if __name__ == "__main__":
    main()
