"""Writes spark.gguf from what train.py left behind.

    python3 export.py [--build DIR] [--out FILE]

Matrices become Q8_0, norms stay F32. The qwen3 architecture rotates halves, as the training does, so no weight is
rearranged. The same input gives the same file, byte for byte.
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

from model import Config
from tokenizer import PRE_TOKENIZER, SPECIAL

HERE = Path(__file__).parent
MAX_BYTES = 4_000_000
# The conversation as training wrote it; no system message unless the caller gives one.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}")


def add_metadata(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("spark")
    writer.add_version("0")
    writer.add_license("MPL-2.0")
    writer.add_description("A very small model of the hearth project, trained from nothing on generated conversations "
                           "about hearth, language models, fire, tea and weather.")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_ctx_train)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_head_kv)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_freq_base)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.n_vocab)


def add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    by_id = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in by_id]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(by_id)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(by_id.index("<|im_end|>"))
    writer.add_pad_token_id(by_id.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_tensors(writer: gguf.GGUFWriter, weights: dict[str, np.ndarray]) -> None:
    for name, value in weights.items():
        if not name.endswith(".weight"):
            name += ".weight"
        value = value.astype(np.float32)
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=HERE / "build")
    parser.add_argument("--out", type=Path, default=HERE / "spark.gguf")
    args = parser.parse_args()

    writer = gguf.GGUFWriter(args.out, "qwen3")
    add_metadata(writer, Config())
    add_tokenizer(writer, args.build / "tokenizer.json")
    add_tensors(writer, dict(sorted(load_file(args.build / "model.safetensors").items())))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    data = args.out.read_bytes()
    if len(data) > MAX_BYTES:
        raise SystemExit(f"error: {args.out} has {len(data)} bytes, more than {MAX_BYTES}")
    print(f"{args.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
