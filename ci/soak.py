#!/usr/bin/env python3
"""Many clients at once on one server, for minutes: do answers stay what they are alone, is every place freed, is memory flat?

    ci/soak.py MODEL.gguf [--hearth PROGRAM] [--clients 32] [--seconds 600] [--seed 1]

Starts `hearth serve` on a free port, asks every request of a pool alone, then lets the clients draw from the pool: lengths
mixed, half of them streams, a quarter cancelled after a random time. Prints how many answers were compared, which differed,
how long the server takes to free its place after a client hung up while its prompt was read, and its memory over time.
Ends with 1 when an answer differs, a place stays taken, or a request fails. Python's own library is enough.
"""

import argparse
import http.client
import json
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server:
    """A hearth that serves one model, and what can be seen of it from outside."""

    def __init__(self, program, model, extra=()):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home = tempfile.TemporaryDirectory(prefix="hearth-soak-")
        self.log = open(pathlib.Path(self.home.name) / "log", "w+")
        self.process = subprocess.Popen(
            [program, "serve", str(model), "--port", str(self.port), *extra],
            env={"HEARTH_HOME": self.home.name, "PATH": "/usr/bin:/bin", "HOME": self.home.name},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        for _ in range(600):
            if self.process.poll() is not None:
                sys.exit(f"error: the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                if self.get("/health")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        else:
            sys.exit(f"error: the server is not ready after a minute:\n{self.tail()}")
        self.model = json.loads(self.get("/v1/models")[1])["data"][0]["id"]

    def tail(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()[-2000:]

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def gauge(self, pattern):
        """The sum of the metrics whose line matches; a pattern that matches nothing would always be at rest."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if re.match(pattern, line)]
        if not lines:
            sys.exit(f"error: no metric matches {pattern}")
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def memory(self):
        """Private memory in MiB: the file's pages do not count."""
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        private = re.findall(r"^(?:Private_Dirty|Private_Clean|Swap):\s+(\d+)", text, re.M)
        return sum(map(int, private)) / 1024

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.log.close()
            self.home.cleanup()


class Hung(Exception):
    """The client left, as it meant to."""


def ask(server, body, patience=None):
    """Text and reason of an answer. After `patience` seconds the client leaves."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=300)
    try:
        data = json.dumps(body).encode()
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        if patience is not None:
            sock.settimeout(0.02)
        received, start = b"", time.monotonic()
        while True:
            if patience is not None and time.monotonic() - start > patience:
                raise Hung
            try:
                part = sock.recv(65536)
            except TimeoutError:
                if patience is None:
                    raise
                continue
            if not part:
                break
            received += part
    finally:
        sock.close()
    head, _, rest = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"{head.decode()[:200]} {rest.decode()[:300]}")
    if b"chunked" in head.lower():
        rest = unchunk(rest)
    if not body.get("stream"):
        choice = json.loads(rest)["choices"][0]
        return choice["text"], choice["finish_reason"]
    text, finish, is_done = "", None, False
    for line in rest.decode().split("\n"):
        if line == "data: [DONE]":
            is_done = True
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(str(event))
            for choice in event["choices"]:
                text += choice["text"]
                finish = choice["finish_reason"] or finish
    if not is_done:
        raise RuntimeError("the stream ended before [DONE]")
    return text, finish


def unchunk(data):
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        size = int(size, 16)
        out, data = out + data[:size], data[size + 2:]
    return out


def pool(draw, size, model):
    """Requests whose answer is determined."""
    words = "the of a fire house wood stone winter river road bread lamp door child song work hand day night".split()
    requests = []
    for index in range(size):
        n_words = draw.choice([2, 10, 40, 40, 150, 400, 1200])
        prompt = " ".join(draw.choice(words) for _ in range(n_words))
        if index % 4 == 0 and requests:
            # A prompt that begins as another one does.
            prompt = draw.choice(requests)["prompt"] + " " + prompt
        body = {"model": model, "prompt": prompt, "max_tokens": draw.choice([1, 8, 30, 100, 250])}
        body["temperature"] = draw.choice([0, 0.7, 1.3])
        body["seed"] = index
        if index % 5 == 0:
            body["stop"] = [draw.choice("aeiou") + draw.choice(" ,."), "zz"]
        if index % 7 == 0:
            body["presence_penalty"] = 1.5
        requests.append(body)
    return requests


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--hearth", default=ROOT / "target/release/hearth")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--pool", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    server = Server(options.hearth, options.model)
    requests = pool(draw, options.pool, server.model)
    alone = [ask(server, body) for body in requests]
    print(f"{len(requests)} requests asked alone", flush=True)

    counts = {"compared": 0, "different": 0, "cancelled": 0, "failed": 0}
    lock, end = threading.Lock(), time.monotonic() + options.seconds

    def client(number):
        mine = random.Random(f"{options.seed}-{number}")
        while time.monotonic() < end:
            index = mine.randrange(len(requests))
            body = dict(requests[index], stream=mine.random() < 0.5)
            patience = mine.uniform(0.01, 2.0) if mine.random() < 0.25 else None
            try:
                answer = ask(server, body, patience)
            except Hung:
                with lock:
                    counts["cancelled"] += 1
                continue
            except Exception as error:  # noqa: BLE001: whatever it is, it counts and is shown
                with lock:
                    counts["failed"] += 1
                    print(f"request {index} failed: {error}", flush=True)
                continue
            with lock:
                counts["compared"] += 1
                if answer != alone[index]:
                    counts["different"] += 1
                    print(f"request {index} differs: {answer!r} against {alone[index]!r}", flush=True)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append((time.monotonic() - start, server.memory()))
        time.sleep(5)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    later = [size for seconds, size in memory if seconds >= 60]
    if later:
        print(f"private memory after the first minute: {min(later):.0f} to {max(later):.0f} MiB, at the end {later[-1]:.0f}")

    stuck = wait_idle(server, 10)
    print("places still taken ten seconds after the last answer:", "some" if stuck is None else 0)
    times = [hang_up(server, number) for number in range(5)]
    if None in times:
        print("a client hung up while its prompt was read, and its place stayed taken")
    else:
        print(f"place freed after a client hung up in the middle of its prompt: median {statistics.median(times):.0f} ms"
              f" ({min(times):.0f} to {max(times):.0f})")
    status = server.stop()
    print("exit status of the server:", status)
    sys.exit(bool(counts["different"] or counts["failed"] or stuck is None or None in times or status))


def busy(server):
    """Answers that run or wait."""
    return server.gauge(r"hearth_(running|waiting)\{")


def wait_idle(server, patience):
    """Milliseconds until nothing runs or waits; None when that does not happen."""
    start = time.monotonic()
    while time.monotonic() - start < patience:
        if busy(server) == 0:
            return 1000 * (time.monotonic() - start)
        time.sleep(0.002)
    return None


def hang_up(server, number):
    """Milliseconds from a client's leaving until its place is free."""
    words = " ".join(f"{number}x{index}" for index in range(4000))
    seen = []
    watch = threading.Timer(0.2, lambda: seen.append(busy(server)))
    watch.start()
    try:
        ask(server, {"model": server.model, "prompt": words, "max_tokens": 5}, patience=0.5)
    except Hung:
        left = time.monotonic()
        watch.join()
        if seen != [1]:
            sys.exit(f"error: {seen} answers ran before the client left, not one")
        return None if wait_idle(server, 30) is None else 1000 * (time.monotonic() - left)
    except RuntimeError as error:
        sys.exit(f"error: the long request failed: {error}")
    sys.exit("error: the long request was over before its client could leave; take a larger model")


if __name__ == "__main__":
    main()
