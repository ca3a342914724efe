"""spark's tokenizer: byte-level BPE trained on the corpus, with the pre-tokenizer that GGUF files call "qwen2".

Reading programs know the splitting rule by that name only, so training must use the very same expression.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PRE_TOKENIZER = "qwen2"
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def dress(bpe: models.BPE) -> Tokenizer:
    """The splitting rule and the special tokens round a BPE model."""
    tokenizer = Tokenizer(bpe)
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def special_tokens() -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False) for text in SPECIAL]


def train(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """All 256 bytes are in the vocabulary, so that any text can be read."""
    tokenizer = dress(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=n_vocab, min_frequency=2, show_progress=False, special_tokens=special_tokens(),
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != n_vocab:
        raise ValueError(f"the corpus gave {tokenizer.get_vocab_size()} tokens, wanted {n_vocab}")
    return tokenizer


def build(tokens: list[str], merges: list[str]) -> Tokenizer:
    """The tokenizer from the lists of a GGUF file."""
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = dress(models.BPE(vocab, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.add_special_tokens(special_tokens())
    return tokenizer
