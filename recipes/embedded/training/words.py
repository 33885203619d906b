"""The tokenizer of the bundled base: byte-level BPE in CLIP's file format, learned from the captions.

Knows vocab.json and merges.txt as CLIPTokenizer reads them; does not know the text encoder.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from training.corpus import Corpus
from training.settings import section

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own pattern (transformers, tokenization_clip.py): words of letters, single digits, runs of signs.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def make_tokenizer(corpus: Corpus, folder: Path) -> CLIPTokenizer:
    """Learns the tokenizer once: a resumed run must keep its ids."""
    if not (folder / "tokenizer.json").is_file():
        settings = section("tokenizer")
        captions = [caption for row in corpus.rows if row["split"] != "held-out" for caption in row["captions"]]
        save_tokenizer(train_tokenizer(captions, settings["vocabulary"], settings["length"]), folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_tokenizer(captions: Iterable[str], vocabulary: int, length: int) -> CLIPTokenizer:
    """A tokenizer of at most `vocabulary` tokens that still spells any text in bytes; prompts end after `length`."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, end_of_word_suffix="</w>",
                                  show_progress=False)  # fmt: skip
    learner.train_from_iterator(captions, trainer)
    merges = learned_merges(learner)
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    tokens = list(dict.fromkeys([*tokens, *(left + right for left, right in merges)]))[: vocabulary - 2]
    known = set(tokens)
    merges = [pair for pair in merges if pair[0] + pair[1] in known]
    ids = {token: index for index, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=length)


def learned_merges(learner: Tokenizer) -> list[tuple[str, str]]:
    """The merge rules in the order in which they were learned."""
    rules = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(rule.split(" ")) if isinstance(rule, str) else tuple(rule) for rule in rules]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Saves and reads back, since every later step depends on it: any text must survive, long prompts must end."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt, for other tools
    again = CLIPTokenizer.from_pretrained(folder)
    for text in ("a photo of sks_honeycrisp apple", "smörgås åäö 日本 ✓ qzx!"):
        spelled = again.decode(again(text)["input_ids"], skip_special_tokens=True)
        if spelled.replace(" ", "") != text.lower().replace(" ", ""):
            raise ValueError(f"the tokenizer in {folder} does not spell {text!r}: it gives {spelled!r}")
    length = len(again("apple " * 100, truncation=True)["input_ids"])
    if length != tokenizer.model_max_length:
        raise ValueError(f"the tokenizer in {folder} does not truncate: {length} tokens")
