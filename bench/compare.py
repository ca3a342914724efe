#!/usr/bin/env python3
"""Measures hearth beside llama.cpp: the same file, threads and machine, in alternating pairs.

    bench/compare.py --list                       the cases of the record
    bench/compare.py qwen3-0.6b-Q4_K_M/prefill-512
    bench/compare.py 'qwen3-4b-*' '*/batch-*'     patterns choose from the list
    bench/compare.py --table bench/record/CPU/DATE.csv      the latest line of each case as a table for the docs

A case is MODEL/WORK. MODEL is SHAPE-MIX (see bench_model.rs) or the name of a file in the models' folder without
'.gguf'. WORK is prefill-TOKENS, decode-TOKENS, either with @DEPTH, or batch-SEQUENCES (128 tokens each after 128).
Every finished case is printed and appended to bench/record/CPU/DATE.csv, so an interrupted run loses nothing.
bench/README.md says more.
"""

import argparse
import csv
import datetime
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"

# What the record in docs/performance.md is made of.
MIXES = ["Q4_K_M", "Q5_K_M", "Q4_0", "Q6_K", "Q8_0", "IQ4_XS", "F16", "BF16", "F32"]
CASES = (
    [f"{model}-Q4_K_M/prefill-512" for model in ["qwen3-0.6b", "llama-3.2-1b", "qwen3-4b", "qwen3-moe-8e"]]
    + [f"qwen3-0.6b-{mix}/prefill-512" for mix in MIXES[1:]]
    + [f"qwen3-0.6b-Q4_K_M/prefill-{tokens}" for tokens in [4096, 8192]]
    + [f"{model}-Q4_K_M/decode-64" for model in ["qwen3-0.6b", "llama-3.2-1b", "qwen3-4b", "qwen3-moe-8e"]]
    + [f"qwen3-0.6b-{mix}/decode-64" for mix in MIXES[1:]]
    + ["qwen3-0.6b-Q4_K_M/decode-64@4096"]
    + [f"qwen3-0.6b-Q4_K_M/batch-{sequences}" for sequences in [8, 32]]
)
COLUMNS = [
    "time", "cpu", "threads", "level", "commit", "compiler", "peer", "case", "part", "pairs", "hearth_tok_s",
    "peer_tok_s", "ratio", "ratio_min", "ratio_max", "limit_share", "load",
]
# Tokens that each sequence of a batch reads and then writes.
BATCH_TOKENS = 128


class Failed(Exception):
    """A program ended without figures."""


class Case:
    """One kind of work on one file."""

    def __init__(self, name):
        found = re.fullmatch(r"([^/]+)/(?:(prefill|decode)-(\d+)(?:@(\d+))?|batch-(\d+))", name)
        if not found:
            raise SystemExit(f"error: '{name}' is no case; a case is MODEL/WORK, such as {CASES[0]}")
        self.name = name
        self.model, self.kind = found[1], found[2] or "batch"
        self.tokens, self.depth, self.sequences = (int(found[i] or 0) for i in (3, 4, 5))

    def hearth(self, options, model):
        """Tokens a second by part, and the report they stand in."""
        command = [options.hearth, "bench", model, "-t", options.threads, "--reps", 1, "--json"]
        if self.kind == "batch":
            command += ["--batch", self.sequences, "-p", BATCH_TOKENS, "-n", BATCH_TOKENS]
        else:
            reads, writes = (self.tokens, 0) if self.kind == "prefill" else (0, self.tokens)
            command += ["-p", reads, "-n", writes, "-d", self.depth]
        report = json.loads(run(command, options))
        if self.kind != "batch":
            speed = report["pp"] or report["tg"]
            return {self.kind: speed["tok_s"]}, {self.kind: speed["limit_share"]}, report
        speeds = {"read": report["batch"][0]["pp"], "write": report["batch"][0]["tg"]}
        values = ({part: speed[key] for part, speed in speeds.items()} for key in ("tok_s", "limit_share"))
        return *values, report

    def peer(self, options, model):
        """The same of llama.cpp."""
        common = ["-m", model, "-t", options.threads, "-fa", 1, *options.peer_args.split()]
        if self.kind == "batch":
            tokens = 2 * BATCH_TOKENS * self.sequences
            # Its context is divided among the sequences in steps of 256.
            size = ["-c", max(512, tokens), "-b", 2048, "-ub", 512]
            work = ["-npp", BATCH_TOKENS, "-ntg", BATCH_TOKENS, "-npl", self.sequences]
            lines = run([options.batched, *common, *size, *work, "--output-format", "jsonl"], options).splitlines()
            rows = [row for row in map(json.loads, filter(lambda line: line.startswith("{"), lines))]
            if len(rows) != 1 or rows[0]["pl"] != self.sequences:
                raise Failed(f"{options.batched} printed {len(rows)} results")
            return {"read": rows[0]["speed_pp"], "write": rows[0]["speed_tg"]}
        reads, writes = (self.tokens, 0) if self.kind == "prefill" else (0, self.tokens)
        work = ["-p", reads, "-n", writes, "-r", 1, "-o", "json"]
        # Older peers do not know the flag.
        depth = ["-d", self.depth] if self.depth else []
        return {self.kind: json.loads(run([options.bench, *common, *work, *depth], options))[0]["avg_ts"]}


def run(command, options):
    """Standard output of a program; one that dies or hangs is a Failed, not the end of everything."""
    command = [str(part) for part in command]
    environment = dict(os.environ)
    if options.level:
        environment["HEARTH_CPU"] = options.level
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout, env=environment)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} took more than {options.timeout} s") from None
    except OSError as error:
        raise Failed(f"{command[0]} does not start: {error}") from None
    if done.returncode:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def model_file(name, options):
    """The file of a model, made when it is not there."""
    path = options.models / f"{name}.gguf"
    if not path.exists():
        mix = next((mix for mix in MIXES if name.endswith(f"-{mix}")), None)
        if mix is None:
            raise Failed(f"there is no {path}, and '{name}' does not end in a mix that can be made")
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"making {path}", file=sys.stderr)
        tool = "cargo run --quiet --release -p hearth-testing --example bench_model --".split()
        made = subprocess.run([*tool, name.removesuffix(f"-{mix}"), mix, path], cwd=ROOT)
        if made.returncode:
            raise Failed(f"cannot make {path}")
    # Once through the page cache: the first run would otherwise measure the disk.
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
    return path


def measure(case, options):
    """Rows for the record, one for each part of the case."""
    model = model_file(case.model, options)
    load = os.getloadavg()[0]
    pairs, shares, report = [], [], None
    failures = 0
    while len(pairs) < options.pairs:
        try:
            ours, share, report = case.hearth(options, model)
            pairs.append((ours, case.peer(options, model)))
            shares.append(share)
        except Failed as failure:
            failures += 1
            print(f"{case.name}: a pair is left out: {failure}", file=sys.stderr)
            if failures > options.pairs:
                raise Failed("too many pairs failed") from None
            continue
        shown = ", ".join(f"{part} {ours[part]:.1f} : {pairs[-1][1][part]:.1f}" for part in ours)
        print(f"  {case.name} {len(pairs)} of {options.pairs}: {shown}", file=sys.stderr)
    return [row(case, part, pairs, shares, report, load, options) for part in pairs[0][0]]


def row(case, part, pairs, shares, report, load, options):
    ratios = [ours[part] / theirs[part] for ours, theirs in pairs]
    limits = [share[part] for share in shares if share[part] is not None]
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "threads": report["threads"],
        "level": report["level"],
        "commit": options.commit,
        "compiler": options.compiler,
        "peer": options.peer_name,
        "case": case.name,
        "part": part,
        "pairs": len(pairs),
        "hearth_tok_s": f"{statistics.median(ours[part] for ours, _ in pairs):.2f}",
        "peer_tok_s": f"{statistics.median(theirs[part] for _, theirs in pairs):.2f}",
        "ratio": f"{statistics.median(ratios):.3f}",
        "ratio_min": f"{min(ratios):.3f}",
        "ratio_max": f"{max(ratios):.3f}",
        "limit_share": f"{statistics.median(limits):.3f}" if limits else "",
        "load": f"{load:.2f}",
    }


def append(rows, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def table(path):
    """The record as Markdown: of each case, level and peer the line that was written last."""
    with open(path, newline="") as file:
        rows = {(row["case"], row["part"], row["level"], row["peer"]): row for row in csv.DictReader(file)}
    head = ["case", "hearth t/s", "llama.cpp t/s", "ratio", "least to greatest", "pairs", "of limit"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (case, part, level, _), row in rows.items():
        what = f"{case} {part}" if "/batch-" in case else case
        share = f"{100 * float(row['limit_share']):.0f} %" if row["limit_share"] else ""
        cells = [f"{what} ({level})", row["hearth_tok_s"], row["peer_tok_s"], f"**{row['ratio']}**",
                 f"{row['ratio_min']} to {row['ratio_max']}", row["pairs"], share]
        lines.append("| " + " | ".join(cells) + " |")
    kinds = sorted({(row["cpu"], row["threads"], row["commit"], row["compiler"], row["peer"]) for row in rows.values()})
    said = "{}; {} threads; hearth {}, {}; peer {}."
    lines += [""] + [said.format(*kind) for kind in kinds]
    return "\n".join(lines)


def cpu_name():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    model = dict(re.findall(r"^(vendor_id|cpu family|model|model name)\s*: (.+)$", text, re.MULTILINE))
    if "model name" not in model:
        return os.uname().machine
    # Hosts of virtual machines often hide the name; family and model are what remains.
    return f"{model['model name'].strip()}, family {model.get('cpu family', '?')} model {model.get('model', '?')}"


def line_of(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip().split("\n")[0]


def commit():
    changed = line_of(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/record"])
    return line_of(["git", "rev-parse", "--short=12", "HEAD"]) + ("+changes" if changed else "")


def peer_name(options):
    """What build-peer.sh wrote down, or the program's own words and a part of its checksum."""
    noted = options.bench.parent.parent / "version.txt"
    if noted.exists():
        return noted.read_text().strip()
    checksum = hashlib.sha256(options.bench.read_bytes()).hexdigest()[:12]
    words = subprocess.run([options.bench, "--version"], capture_output=True, text=True)
    found = re.search(r"version: .+", words.stdout + words.stderr)
    return f"{options.bench.name} {found[0] if found else ''} sha256 {checksum}".replace("  ", " ")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = os.environ.get
    parser.add_argument("cases", nargs="*", help="cases, or patterns that choose from the list; nothing: the whole list")
    parser.add_argument("--list", action="store_true", help="print the list and end")
    parser.add_argument("--table", type=pathlib.Path, metavar="CSV", help="print a record as a table and end")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for each case (5)")
    parser.add_argument("--threads", type=int, default=0, help="threads of both programs (hearth's own choice)")
    parser.add_argument("--level", default="", help="HEARTH_CPU of hearth, such as avx2")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that one run may take (1800)")
    parser.add_argument("--hearth", type=pathlib.Path, default=ROOT / "target/release/hearth", help="the program")
    parser.add_argument(
        "--peer", type=pathlib.Path, default=pathlib.Path(setting("HEARTH_BENCH_PEER", BENCH / "peer/build/bin")),
        help="folder of llama.cpp's programs (HEARTH_BENCH_PEER, else bench/peer/build/bin)",
    )
    parser.add_argument("--peer-program", default="llama-bench", help="its benchmark program (llama-bench)")
    parser.add_argument("--peer-args", default="", help="further words for the peer's programs")
    parser.add_argument(
        "--models", type=pathlib.Path, default=pathlib.Path(setting("HEARTH_BENCH_MODELS", BENCH / "models")),
        help="folder of the models (HEARTH_BENCH_MODELS, else bench/models); missing ones are made",
    )
    parser.add_argument("--record", type=pathlib.Path, help="file to append to (bench/record/CPU/DATE.csv)")
    return parser.parse_args()


def chosen(patterns):
    names = []
    for pattern in patterns or CASES:
        matching = [name for name in CASES if fnmatch.fnmatchcase(name, pattern)]
        if not matching and any(letter in pattern for letter in "*?["):
            raise SystemExit(f"error: no case of the list matches '{pattern}'; --list prints it")
        names += matching or [pattern]
    return [Case(name) for name in dict.fromkeys(names)]


def main():
    options = arguments()
    if options.list:
        print("\n".join(CASES))
        return 0
    if options.table:
        print(table(options.table))
        return 0
    cases = chosen(options.cases)
    if options.pairs < 1:
        raise SystemExit("error: --pairs must be at least 1")
    options.bench = options.peer.absolute() / options.peer_program
    options.batched = options.peer.absolute() / "llama-batched-bench"
    for program, how in [(options.hearth, "cargo build --release"), (options.bench, "bench/build-peer.sh")]:
        if not program.exists():
            raise SystemExit(f"error: there is no {program}\nhint: {how} makes it")
    if not options.threads:
        probe = run([options.hearth, "bench", "spark", "-p", 1, "-n", 0, "--reps", 1, "--json"], options)
        options.threads = json.loads(probe)["threads"]
    options.commit, options.compiler, options.peer_name = commit(), line_of(["rustc", "--version"]), peer_name(options)
    folder = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
    record = options.record or BENCH / "record" / folder / f"{datetime.date.today().isoformat()}.csv"
    if os.getloadavg()[0] > 0.5:
        print(f"note: the load is {os.getloadavg()[0]:.1f}; figures from a busy machine are void", file=sys.stderr)
    failed = 0
    for case in cases:
        try:
            rows = measure(case, options)
        except Failed as failure:
            print(f"{case.name}: no figures: {failure}", file=sys.stderr)
            failed += 1
            continue
        append(rows, record)
        for one in rows:
            shown = "{case} {part}: {hearth_tok_s} : {peer_tok_s} tokens/s, ratio {ratio} ({ratio_min} to {ratio_max})"
            print(shown.format(**one))
    print(f"recorded in {record}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
