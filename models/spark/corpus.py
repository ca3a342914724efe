"""The corpus of spark: a deterministic generator of short conversations. No text of anybody else goes in.

`subjects.txt` holds what spark knows: questions in many forms and a handful of answers for each subject. This file
turns them into conversations: it picks a subject, words the question, adds the slips of people who type (lower case,
no punctuation, a wrong letter), and joins a few turns. Two kinds of turn are made up here: questions that spark cannot
answer (`unknown.txt`), and little stories. The questions in `held_out.tsv` are never produced.

    python3 corpus.py [N]      prints N conversations
"""

import random
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

DEFINE = ["what is {}", "what is {}", "what's {}", "whats {}", "explain {}", "can you explain {}", "tell me about {}",
          "tell me what {} is", "what do you know about {}", "what does {} mean", "what is meant by {}", "define {}",
          "{}", "do you know {}", "do you know what {} is", "say something about {}", "teach me about {}",
          "i want to know about {}", "i want to know what {} is", "what exactly is {}", "what are {}", "how does {} work",
          "i do not understand {}", "tell me more about {}", "describe {}", "give me a definition of {}", "and {}",
          "what about {}", "talk about {}", "could you tell me about {}", "help me understand {}", "can you tell me what {} is",
          "i would like to learn about {}", "how would you explain {}", "explain {} to a child", "explain {} simply"]
BEFORE = ["hey, ", "hello, ", "hi, ", "please ", "so ", "ok, ", "spark, ", "hey spark, ", "um, ", "well, ", "quick question: ",
          "i have a question: ", "now ", "and ", "but ", "hello spark, ", "good day, ", "tell me, ", "sorry, ", "i wonder, ",
          "one more thing: ", "can you tell me ", "next question: ", "thanks. ", "great, "]
AFTER = [" please", ", please", " spark", ", spark", " then", " exactly", " in short", " in one sentence",
         " thanks", " again", " really"]
MORE = ["tell me more", "more", "more please", "go on", "and", "say more", "what else", "anything else", "tell me more about it",
        "tell me more about that", "i want to know more", "continue", "can you say more", "please go on", "explain more",
        "is there more"]
SYSTEM = ["You are spark.", "You are a helpful program.", "You are spark, a very small model.", "Answer briefly.",
          "Be friendly.", "Answer in English.", "You help people to use hearth.",
          "Be honest about what you do not know.", "You are a guide to hearth."]


@dataclass
class Subject:
    name: str
    names: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


def read_lines(name: str) -> list[str]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def read_subjects() -> list[Subject]:
    subjects: list[Subject] = []
    for line in read_lines("subjects.txt"):
        mark, rest = line[0], line[1:].strip()
        if mark == "[":
            subjects.append(Subject(rest.rstrip("]")))
        elif mark == "=":
            subjects[-1].names += [part.strip() for part in rest.split("|")]
        elif mark == "?":
            subjects[-1].questions.append(rest)
        elif mark == "!":
            subjects[-1].answers.append(rest)
        else:
            raise ValueError(f"subjects.txt: a line begins with {mark!r}: {line}")
    return subjects


def read_lists(name: str) -> dict[str, list[str]]:
    """A file of `name: a ; b ; c` lines; a name may be given more than once."""
    lists: dict[str, list[str]] = {}
    for line in read_lines(name):
        key, rest = line.split(":", 1)
        lists.setdefault(key.strip(), []).extend(part.strip() for part in rest.split(" ; "))
    return lists


def expand(pattern: str, rng: random.Random) -> str:
    """Choose one branch of each (a|b), then tidy the spaces."""
    text = re.sub(r"\(([^()]*\|[^()]*)\)", lambda m: rng.choice(m.group(1).split("|")), pattern)
    return re.sub(r"\s+", " ", text).strip()


def plain(text: str) -> str:
    """The form in which questions are compared: letters and digits only."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def slip(text: str, rng: random.Random) -> str:
    """One typing slip: a letter lost, doubled, swapped with its neighbour, or another one."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i, kind = rng.choice(places), rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1:]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    if kind == 2:
        return text[:i] + text[i + 1] + text[i] + text[i + 2:]
    return text[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1:]


def as_typed(question: str, rng: random.Random) -> str:
    """A question as people type it."""
    text = question
    if rng.random() < 0.22:
        text = rng.choice(BEFORE) + text
    if rng.random() < 0.10:
        text = text + rng.choice(AFTER)
    for _ in range(rng.choice([0, 0, 0, 0, 0, 0, 1, 1, 2])):
        text = slip(text, rng)
    style = rng.random()
    if style < 0.5:
        text = text[0].upper() + text[1:]
        text = re.sub(r"\bi\b", "I", text)
    elif style < 0.53:
        text = text.upper()
    end = rng.random()
    if end < 0.5:
        asks = re.match(r"(what|why|how|who|where|when|which|is|are|do|does|can|could|will|in|must|may|should)\b", question)
        text += "?" if asks else rng.choice([".", "!", ".", ""])
    elif end < 0.55:
        text += rng.choice(["??", "!", "...", " ?"])
    return text


class Story:
    """Short stories about a hearth: who, weather, trouble, help, end. The parts agree because they share the slots."""

    def __init__(self) -> None:
        self.parts = read_lists("stories.txt")

    def make(self, rng: random.Random, hero: str | None = None) -> str:
        slots = {key: rng.choice(values) for key, values in self.parts.items() if key.islower()}
        if hero is not None:
            slots["who"] = hero
        text = " ".join(rng.choice(self.parts[part]) for part in ("BEGIN", "TROUBLE", "TURN", "END"))
        text = text.format(**slots)
        return re.sub(r"(^|[.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)

    def ask(self, rng: random.Random) -> tuple[str, str]:
        if rng.random() < 0.4:
            return expand(rng.choice(self.parts["ASK"]), rng), self.make(rng)
        who = rng.choice(self.parts["who"])
        ask = expand(rng.choice(self.parts["ASK_ABOUT"]), rng)
        return ask.format(who=who), self.make(rng, who)


class Unknown:
    """Questions about everything else, and the honest answer."""

    def __init__(self) -> None:
        self.lists = read_lists("unknown.txt")

    def word(self, rng: random.Random) -> str:
        """A word that is none, so that a strange word alone means: I do not know."""
        parts = ["ka", "lo", "mi", "ter", "bran", "dul", "ve", "os", "pri", "zan", "que", "sto", "fel", "ix", "um", "ra",
                 "gon", "thi", "sel", "wop", "nar", "ju", "xo", "bli", "cra", "den", "ip", "ol", "hy", "ment"]
        return "".join(rng.choice(parts) for _ in range(rng.randint(2, 4)))

    def number(self, rng: random.Random) -> str:
        return str(rng.choice([rng.randrange(10), rng.randrange(100), rng.randrange(1000), rng.randrange(100000)]))

    def sum(self, rng: random.Random) -> str:
        sign = rng.choice([" + ", "+", " plus ", " times ", " * ", "*", " minus ", "-", " divided by ", "/", " x "])
        text = sign.join(self.number(rng) for _ in range(rng.choice([2, 2, 2, 3])))
        return expand(rng.choice(self.lists["SUM"]), rng).format(sum=text)

    def ask(self, rng: random.Random) -> tuple[str, str]:
        kind = rng.random()
        if kind < 0.42:
            thing = rng.choice(self.lists["THING"]) if rng.random() < 0.85 else self.word(rng)
            question = rng.choice(DEFINE).format(thing)
        elif kind < 0.52:
            question = self.sum(rng)
        elif kind < 0.56:
            question = " ".join(self.word(rng) for _ in range(rng.randint(1, 4)))
        else:
            question = expand(rng.choice(self.lists["ASK"]), rng)
            for key in ("THING", "PLACE", "PERSON", "TASK"):
                while "{" + key + "}" in question:
                    question = question.replace("{" + key + "}", rng.choice(self.lists[key]), 1)
            question = question.replace("{WORD}", self.word(rng)).replace("{NUMBER}", self.number(rng))
        return question, rng.choice(self.lists["ANSWER"])


class Corpus:
    """conversation(rng) gives one list of (role, text)."""

    def __init__(self) -> None:
        self.subjects = read_subjects()
        self.stories = Story()
        self.unknown = Unknown()
        # Subjects with more ways to be asked need more examples, but none may drown the others.
        self.weights = [1.0 + 0.15 * min(len(s.questions) + len(s.names), 12) for s in self.subjects]
        held = (line.split("\t")[1] for line in read_lines("held_out.tsv"))
        self.held_out = {plain(question) for question in held}

    def known(self, rng: random.Random) -> tuple[str, str, Subject]:
        subject = rng.choices(self.subjects, self.weights)[0]
        n_names = len(subject.names)
        if n_names and rng.random() < max(0.35, 1.0 - 0.12 * len(subject.questions)):
            question = rng.choice(DEFINE).format(rng.choice(subject.names))
        else:
            question = expand(rng.choice(subject.questions), rng)
        return question, rng.choice(subject.answers), subject

    def turns(self, rng: random.Random, n_turns: int) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        last: Subject | None = None
        last_was_story = False
        while len(out) < 2 * n_turns:
            roll, subject, is_story = rng.random(), None, False
            if last and len(last.answers) > 1 and roll < 0.12:
                question, subject = rng.choice(MORE), last
                answer = rng.choice([a for a in last.answers if a != out[-1][1]])
            elif last_was_story and roll < 0.25:
                question = expand(rng.choice(self.stories.parts["AGAIN"]), rng)
                answer, is_story = self.stories.make(rng), True
            elif roll < 0.76:
                question, answer, subject = self.known(rng)
            elif roll < 0.91:
                question, answer = self.unknown.ask(rng)
            else:
                (question, answer), is_story = self.stories.ask(rng), True
            typed = as_typed(question, rng)
            if plain(typed) in self.held_out or plain(question) in self.held_out:
                continue
            out += [("user", typed), ("assistant", answer)]
            last, last_was_story = subject, is_story
        return out

    def conversation(self, rng: random.Random) -> list[tuple[str, str]]:
        n_turns = rng.choice([1, 1, 1, 2, 2, 3, 3, 4, 6]) if rng.random() < 0.95 else rng.randint(7, 16)
        system = [("system", rng.choice(SYSTEM))] if rng.random() < 0.15 else []
        return system + self.turns(rng, n_turns)

    def generate(self, n: int, seed: int) -> list[list[tuple[str, str]]]:
        rng = random.Random(seed)
        return [self.conversation(rng) for _ in range(n)]


def render(conversation: list[tuple[str, str]]) -> list[tuple[str, bool]]:
    """ChatML as pieces (text, is learned). A reply is learned with its end mark; all else is only read."""
    pieces: list[tuple[str, bool]] = []
    for role, text in conversation:
        learned = role == "assistant"
        pieces.append((f"<|im_start|>{role}\n", False))
        pieces.append((f"{text}<|im_end|>", learned))
        pieces.append(("\n", False))
    return pieces


if __name__ == "__main__":
    for chat in Corpus().generate(int(sys.argv[1]) if len(sys.argv) > 1 else 10, seed=1):
        print("".join(text for text, _ in render(chat)))
