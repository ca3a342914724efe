"""spark's network: the qwen3 architecture, written out once in PyTorch.

Training, export and evaluation share this file, so that the numbers in the card come from the same mathematics.
Names of the parameters are those of the GGUF tensors, which makes the export a plain loop.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes. n_embd and n_ff are multiples of 256, so that every K-quant can hold the matrices."""

    n_vocab: int = 2048
    n_layer: int = 5
    n_embd: int = 256
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 64
    n_ff: int = 512
    n_ctx_train: int = 1024
    rope_freq_base: float = 10000.0
    norm_eps: float = 1e-6

    def to_dict(self) -> dict:
        return asdict(self)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rope_table(config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each [n_ctx_train, head_dim], halves repeated (the neox arrangement)."""
    half = config.head_dim // 2
    inv_freq = config.rope_freq_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(config.n_ctx_train, dtype=torch.float64)[:, None] * inv_freq
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x is [batch, n_head, n_tokens, head_dim]; element i pairs with i + head_dim / 2."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class Layer(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        q_width, kv_width = config.n_head * config.head_dim, config.n_head_kv * config.head_dim
        self.attn_norm = nn.Parameter(torch.ones(config.n_embd))
        self.attn_q = nn.Linear(config.n_embd, q_width, bias=False)
        self.attn_k = nn.Linear(config.n_embd, kv_width, bias=False)
        self.attn_v = nn.Linear(config.n_embd, kv_width, bias=False)
        self.attn_q_norm = nn.Parameter(torch.ones(config.head_dim))
        self.attn_k_norm = nn.Parameter(torch.ones(config.head_dim))
        self.attn_output = nn.Linear(q_width, config.n_embd, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(config.n_embd))
        self.ffn_gate = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.ffn_up = nn.Linear(config.n_embd, config.n_ff, bias=False)
        self.ffn_down = nn.Linear(config.n_ff, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(rms_norm(x, self.attn_norm, self.config.norm_eps), cos, sin)
        h = rms_norm(x, self.ffn_norm, self.config.norm_eps)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def attend(self, h: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        c = self.config
        n_batch, n_tokens, _ = h.shape
        q = self.attn_q(h).view(n_batch, n_tokens, c.n_head, c.head_dim).transpose(1, 2)
        k = self.attn_k(h).view(n_batch, n_tokens, c.n_head_kv, c.head_dim).transpose(1, 2)
        v = self.attn_v(h).view(n_batch, n_tokens, c.n_head_kv, c.head_dim).transpose(1, 2)
        q = rotate(rms_norm(q, self.attn_q_norm, c.norm_eps), cos, sin)
        k = rotate(rms_norm(k, self.attn_k_norm, c.norm_eps), cos, sin)
        group = c.n_head // c.n_head_kv
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(out.transpose(1, 2).reshape(n_batch, n_tokens, -1))


class Spark(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.n_vocab, config.n_embd)
        self.blk = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.output_norm = nn.Parameter(torch.ones(config.n_embd))
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def init_weights(self, generator: torch.Generator) -> None:
        """Normal, 0.02; what writes into the residual stream is smaller, so that depth does not grow it."""
        for name, p in self.named_parameters():
            if p.dim() == 2:
                writes = name.endswith(("attn_output.weight", "ffn_down.weight"))
                std = 0.02 / (2 * self.config.n_layer) ** 0.5 if writes else 0.02
                nn.init.normal_(p, std=std, generator=generator)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [batch, n_tokens] -> the normed residual stream [batch, n_tokens, n_embd]."""
        n_tokens = tokens.shape[1]
        cos, sin = self.cos[:n_tokens], self.sin[:n_tokens]
        x = self.token_embd(tokens)
        for layer in self.blk:
            x = layer(x, cos, sin)
        return rms_norm(x, self.output_norm, self.config.norm_eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output matrix is the embedding (tied)."""
        return F.linear(hidden, self.token_embd.weight)

    @torch.no_grad()
    def greedy(self, tokens: list[int], stop: set[int], limit: int) -> list[int]:
        """The plain greedy continuation, without a cache: slow, short and easy to trust."""
        out: list[int] = []
        while len(out) < limit and len(tokens) + len(out) < self.config.n_ctx_train:
            hidden = self.hidden(torch.tensor([tokens + out]))
            best = int(self.logits(hidden[0, -1]).argmax())
            if best in stop:
                break
            out.append(best)
        return out
