"""Trains spark on a CPU: tokenizer and network from nothing, on conversations made by corpus.py.

    python3 train.py [--steps N] [--threads N] [--out DIR]

Writes DIR/tokenizer.json, DIR/model.safetensors and DIR/train.json; export.py makes the GGUF file from them.
Every conversation is seen once. Only the words of the assistant are learned.
"""

import argparse
import ctypes
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import tokenizer as spark_tokenizer
from corpus import Corpus, render
from model import Config, Spark

SEED = 4327
N_TOKENIZER_CHATS = 8000
BATCH_TOKENS = 2048
PEAK_RATE, WARMUP_STEPS, WEIGHT_DECAY = 3e-3, 80, 0.1
IGNORE = -100
# Which answer it is shows in its first tokens; the rest follows from them. These count more, or choosing is learned last.
FIRST_TOKENS, FIRST_WEIGHT = 4, 4.0


def keep_memory() -> None:
    """Tell glibc to keep freed memory: otherwise each step maps its buffers anew, and page faults halve the speed."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for any size
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give back
    except OSError:
        pass  # another C library; only speed depends on it


def encode(chat: list[tuple[str, str]], tokenizer: Tokenizer) -> tuple[list[int], list[int], list[float]]:
    """Token ids, and for each position the id to be predicted there (or IGNORE) and its weight."""
    ids: list[int] = []
    weights: list[float] = []
    for text, is_learned in render(chat):
        piece = tokenizer.encode(text).ids
        ids += piece
        if is_learned:
            weights += [FIRST_WEIGHT if i < FIRST_TOKENS else 1.0 for i in range(len(piece))]
        else:
            weights += [0.0] * len(piece)
    targets = [token if weight else IGNORE for token, weight in zip(ids[1:], weights[1:])]
    return ids[:-1], targets, weights[1:]


def batches(n_steps: int, config: Config, tokenizer: Tokenizer):
    """n_steps batches of at most BATCH_TOKENS with little padding: conversations of like length go together."""
    corpus, rng = Corpus(), random.Random(SEED)
    done = 0
    while done < n_steps:
        pool = [encode(corpus.conversation(rng), tokenizer) for _ in range(3000)]
        pool = sorted((chat for chat in pool if len(chat[0]) <= config.n_ctx_train), key=lambda chat: len(chat[0]))
        groups: list[list] = [[]]
        for chat in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(chat[0]) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(chat)
        rng.shuffle(groups)
        for group in groups[: n_steps - done]:
            width = max(len(ids) for ids, _, _ in group)
            pad = [width - len(ids) for ids, _, _ in group]
            tokens = torch.tensor([ids + [0] * n for (ids, _, _), n in zip(group, pad)])
            targets = torch.tensor([want + [IGNORE] * n for (_, want, _), n in zip(group, pad)])
            weights = torch.tensor([weight + [0.0] * n for (_, _, weight), n in zip(group, pad)])
            yield tokens, targets, weights
        done += len(groups[: n_steps - done])


def rate(step: int, n_steps: int) -> float:
    """Warm up, then a cosine down to one hundredth."""
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    part = (step - WARMUP_STEPS) / max(1, n_steps - WARMUP_STEPS)
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


def optimizer_for(model: Spark) -> torch.optim.Optimizer:
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embd" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() != 2 or "embd" in name]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def train(model: Spark, tokenizer: Tokenizer, n_steps: int) -> dict:
    optimizer = optimizer_for(model)
    n_seen = n_learned = 0
    recent: list[float] = []
    began, cpu_began = time.time(), time.process_time()
    for step, (tokens, targets, weights) in enumerate(batches(n_steps, model.config, tokenizer)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, n_steps)
        wanted = targets != IGNORE
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.logits(model.hidden(tokens)[wanted])
        losses = F.cross_entropy(logits.float(), targets[wanted], reduction="none")
        loss = (losses * weights[wanted]).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        n_seen += tokens.numel()
        n_learned += int(wanted.sum())
        recent = (recent + [losses.mean().item()])[-100:]
        if step % 50 == 0 or step == n_steps - 1:
            seconds = time.time() - began
            print(f"step {step:5} loss {sum(recent) / len(recent):.4f} tokens {n_seen} learned {n_learned} "
                  f"wall {seconds:.0f} s cpu {time.process_time() - cpu_began:.0f} s", flush=True)
    return {"steps": n_steps, "tokens_seen": n_seen, "tokens_learned": n_learned, "loss_last_100": sum(recent) / len(recent),
            "wall_s": round(time.time() - began), "cpu_s": round(time.process_time() - cpu_began),
            "threads": torch.get_num_threads(), "seed": SEED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)

    config = Config()
    chats = Corpus().generate(N_TOKENIZER_CHATS, seed=SEED + 1)
    texts = (text for chat in chats for _, text in chat)
    tokenizer = spark_tokenizer.train(texts, config.n_vocab)
    tokenizer.save(str(args.out / "tokenizer.json"))

    model = Spark(config)
    model.init_weights(torch.Generator().manual_seed(SEED))
    record = train(model, tokenizer, args.steps)
    record["parameters"] = sum(p.numel() for p in model.parameters())
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, str(args.out / "model.safetensors"))
    (args.out / "train.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
