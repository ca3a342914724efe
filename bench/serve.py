#!/usr/bin/env python3
"""Measures hearth's server beside llama.cpp's: the same file, threads, machine and requests, in alternating pairs.

    bench/serve.py MODEL.gguf --peer FOLDER [--streams 8 32] [--pairs 5]       many streams at once
    bench/serve.py MODEL.gguf --beside                                         a short request beside a long prompt
    bench/serve.py MODEL.gguf --restart                                        a prompt read again after a restart

Streams: each sends its own prompt of 128 tokens and wants 128 tokens back; the figure is tokens written a second from the
first request to the last answer, reading included. Every run starts a fresh server, without a cache on disk.
Beside: hearth alone. Time to the first token of a request of 32 tokens that arrives while 16,000 are read, and the time of the
long prompt alone and beside it. Restart: hearth alone. The first token of a 4,000-token prompt, and again after a restart.
Python's own library is enough; llama.cpp's settings are shown with the result.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT, ANSWER = 128, 128


class Server:
    """A server as a child process."""

    def __init__(self, command, home, health="/health"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = dict(os.environ, HEARTH_HOME=home)
        self.log = open(pathlib.Path(home) / "log", "a+")
        self.process = subprocess.Popen([*map(str, command), "--port", str(self.port)], env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while True:
            if self.process.poll() is not None:
                sys.exit(f"error: {command[0]} ended with {self.process.returncode}, see {self.log.name}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", health)
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/v1/models")
        self.model = json.loads(connection.getresponse().read())["data"][0]["id"]

    def stop(self):
        self.process.terminate()
        self.process.wait(120)
        self.log.close()

    def complete(self, tokens, n_answer, stop_token=None):
        """Seconds to the first piece of text and to the end, and the usage."""
        body = {"model": self.model, "prompt": tokens, "max_tokens": n_answer, "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True}}
        if stop_token is not None:
            body["logit_bias"] = {str(stop_token): -100}
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1800)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"error: {answer.status} {answer.read().decode()[:300]}")
        first, usage = None, None
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                usage = event["usage"]
            # A token may be half a character: then its piece has no text, but it is there.
            if event["choices"] and first is None:
                first = time.monotonic() - start
        return first, time.monotonic() - start, usage


def prompt(draw, size):
    """Tokens of the printable part of every vocabulary we meet."""
    return [draw.randrange(300, 2000) for _ in range(size)]


def streams(options, make, count):
    """Tokens written a second by `count` clients at once."""
    draw = random.Random(count)
    prompts = [prompt(draw, PROMPT) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as home:
        server = make(home, count)
        server.complete(prompt(draw, 16), 4, options.stop_token)
        results = [None] * count

        def client(index):
            results[index] = server.complete(prompts[index], ANSWER, options.stop_token)

        threads = [threading.Thread(target=client, args=(index,)) for index in range(count)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
        server.stop()
    written = sum(usage["completion_tokens"] for _, _, usage in results)
    if written < 0.95 * count * ANSWER:
        print(f"note: only {written} of {count * ANSWER} tokens were written", file=sys.stderr)
    return written / seconds


def hearth(options, extra=("--no-disk-cache",)):
    return lambda home, _count: Server(
        [options.hearth, "serve", options.model, "-t", options.threads, *extra], home)


def peer(options):
    program = pathlib.Path(options.peer) / "llama-server"
    return lambda home, count: Server(
        [program, "-m", options.model, "-t", options.threads, "-fa", "on", "-np", count, "-c", count * 512, "-b", 2048, "-ub", 512,
         *options.peer_args.split()], home)


def compare(options):
    for count in options.streams:
        pairs = []
        for number in range(options.pairs):
            pairs.append((streams(options, hearth(options), count), streams(options, peer(options), count)))
            print(f"  {count} streams {number + 1} of {options.pairs}: {pairs[-1][0]:.1f} : {pairs[-1][1]:.1f}", file=sys.stderr)
        ratios = [ours / theirs for ours, theirs in pairs]
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        print(f"{count} streams: {ours:.1f} : {theirs:.1f} tokens/s, ratio {statistics.median(ratios):.2f}"
              f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(pairs)} pairs); llama.cpp: -fa on -np {count} -c {count * 512} -b 2048 -ub 512"
              f" {options.peer_args}".rstrip())


def beside(options):
    alone, disturbed, first = [], [], []
    for number in range(options.pairs):
        for short in [False, True]:
            draw = random.Random(f"{number}-{short}")
            with tempfile.TemporaryDirectory(prefix="hearth-bench-") as home:
                server = hearth(options)(home, 1)
                server.complete(prompt(draw, 16), 4, options.stop_token)
                times = []
                if short:
                    timer = threading.Timer(options.after, lambda: times.append(
                        server.complete(prompt(random.Random(7), 32), 8, options.stop_token)))
                    timer.start()
                took, _, _ = server.complete(prompt(draw, options.long), 1, options.stop_token)
                if short:
                    timer.join()
                    disturbed.append(took)
                    first.append(times[0][0])
                else:
                    alone.append(took)
                server.stop()
        print(f"  {number + 1} of {options.pairs}: long prompt {alone[-1]:.1f} s alone, {disturbed[-1]:.1f} s beside; short {first[-1]:.2f} s", file=sys.stderr)
    ratios = [after / before for before, after in zip(alone, disturbed)]
    print(f"{options.long} tokens: {statistics.median(alone):.1f} s alone, {statistics.median(disturbed):.1f} s beside a short request, ratio"
          f" {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); first token of the short one after"
          f" {statistics.median(first):.2f} s ({min(first):.2f} to {max(first):.2f})")


def restart(options):
    shares = []
    for number in range(options.pairs):
        tokens = prompt(random.Random(number), 4000)
        with tempfile.TemporaryDirectory(prefix="hearth-bench-") as home:
            times = []
            for _ in range(2):
                server = hearth(options, ())(home, 1)
                server.complete(prompt(random.Random(99), 16), 4, options.stop_token)
                times.append(server.complete(tokens, 1, options.stop_token))
                server.stop()
        (before, _, _), (after, _, usage) = times
        shares.append(after / before)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        print(f"  {number + 1} of {options.pairs}: {before:.2f} s, after the restart {after:.3f} s, {cached} tokens from the cache", file=sys.stderr)
    print(f"first token of 4000 after a restart: {100 * statistics.median(shares):.1f} % of the first reading"
          f" ({100 * min(shares):.1f} to {100 * max(shares):.1f} %, {len(shares)} rounds)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--hearth", default=ROOT / "target/release/hearth")
    parser.add_argument("--peer", help="folder of llama.cpp's programs")
    parser.add_argument("--peer-args", default="", help="further words for llama.cpp's server")
    parser.add_argument("--threads", "-t", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--streams", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--stop-token", type=int, help="a token that would end the text, forbidden so that lengths are equal")
    parser.add_argument("--long", type=int, default=16000)
    parser.add_argument("--after", type=float, default=5.0, help="seconds after which the short request arrives")
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--restart", action="store_true")
    options = parser.parse_args()
    if options.beside:
        beside(options)
    elif options.restart:
        restart(options)
    elif options.peer:
        compare(options)
    else:
        parser.error("--peer is needed to compare")


if __name__ == "__main__":
    main()
