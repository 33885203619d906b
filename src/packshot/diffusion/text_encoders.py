"""A text encoder with its tokenizer, and the token that can be added to both for a while. Knows no family."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, PreTrainedModel

from packshot.diffusion.floats import without_fp16
from packshot.domain.errors import IncompatibleFineTune, InvalidConfiguration

# A new token starts at its class noun, moved by this share of the vocabulary's own spread: near enough to mean the
# class, far enough that a frozen row can be told from the noun.
TOKEN_NOISE = 0.2


class Tokenizer(Protocol):
    """What this module uses of the tokenizers of transformers."""

    model_max_length: int
    eos_token_id: int

    def __call__(self, text: str | list[str], **options: Any) -> Any:
        """Token ids of one text or several."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        ...

    def add_tokens(self, new_tokens: list[AddedToken]) -> int:
        """Add tokens that are never split."""
        ...

    def convert_tokens_to_ids(self, tokens: str) -> int:
        """The id of a token."""
        ...


class EmbeddingWithToken(nn.Module):
    """A frozen embedding table with further rows, which are a parameter of their own."""

    def __init__(self, table: nn.Embedding, rows: Tensor, first_id: int) -> None:
        super().__init__()
        self.table = table
        self.first_id = first_id
        self.rows = nn.Parameter(rows.to(table.weight).clone(), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of any shape to embeddings; those of the new rows may lie behind the table's end."""
        added = (ids >= self.first_id) & (ids < self.first_id + len(self.rows))
        embeddings = self.table(ids.masked_fill(added, 0))
        for number, row in enumerate(self.rows):
            embeddings = torch.where((ids == self.first_id + number)[..., None], row, embeddings)
        return embeddings


@dataclass(frozen=True, kw_only=True)
class NewToken:
    """A token made for one text encoder; ``reading`` says how it is spelled for the tokenizer."""

    tokenizer: Tokenizer
    reading: tuple[str, str]
    embedding: EmbeddingWithToken


class TextEncoder:
    """A frozen text encoder. ``name`` is that of its folder; prompts are cut to ``max_tokens`` or what it can read.

    ``fits_fp16``: what it computes is not beyond the largest 16-bit float.
    """

    def __init__(
        self,
        *,
        name: str,
        module: PreTrainedModel,
        tokenizer: Tokenizer,
        device: torch.device,
        max_tokens: int | None = None,
        fits_fp16: bool = True,
    ) -> None:
        self.name = name
        self.module = module
        self.num_tokens = min(
            tokenizer.model_max_length,
            max_tokens or tokenizer.model_max_length,
            getattr(module.config, "max_position_embeddings", tokenizer.model_max_length),
        )
        self._tokenizer = tokenizer
        self._token: tuple[str, str] | None = None
        self._device = device
        self._fits_fp16 = fits_fp16
        _pool_at_the_end(module, tokenizer)

    def __call__(self, prompts: Sequence[str], **options: Any) -> Any:
        """The module's output for prompts padded and cut to ``num_tokens``."""
        texts = [prompt.replace(*self._token) if self._token else prompt for prompt in prompts]
        tokens = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.num_tokens, return_tensors="pt"
        )
        with nullcontext() if self._fits_fp16 else without_fp16(self._device):
            return self.module(cast(Tensor, tokens.input_ids).to(self._device), **options)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token with its id."""
        return self._tokenizer.get_vocab()

    def initial_rows(self, class_noun: str, seed: int, num_vectors: int) -> Tensor:
        """(num_vectors, width): the mean embedding of the class noun's tokens plus a little seeded noise."""
        table = self._table().weight.detach()
        ids = self._tokenizer(class_noun, add_special_tokens=False).input_ids
        mean = table[torch.tensor(ids, device=table.device)].mean(0, keepdim=True).cpu()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.cat([torch.randn(mean.shape, generator=generator) for _ in range(num_vectors)])
        return mean + TOKEN_NOISE * table.std().cpu() * noise

    def new_token(self, token: str, rows: Tensor) -> NewToken:
        """Make ``token`` with a copy of the tokenizer and a parameter of its ``rows``; nothing of the encoder changes.

        A token of several rows is read as a sequence of tokens, ``<t> <t>_1 <t>_2``, as diffusers names them.

        Raises:
            InvalidConfiguration: the token is in the vocabulary, so that it would mean something already.
            IncompatibleFineTune: the rows are not as wide as the embedding.
        """
        table = self._table()
        tokenizer = copy.deepcopy(self._tokenizer)
        if token in tokenizer.get_vocab():
            raise InvalidConfiguration(
                f"the token {token!r} is in the base's vocabulary already; the trained token must be a new word, "
                "such as '<packshot-1f3a>'"
            )
        if rows.dim() != 2 or not len(rows) or rows.shape[1] != table.embedding_dim:
            raise IncompatibleFineTune(
                f"the token's rows for {self.name} have the shape {tuple(rows.shape)}, and the base's embedding is "
                f"{table.embedding_dim} wide; they were trained on another base"
            )
        pieces = [token, *(f"{token}_{number}" for number in range(1, len(rows)))]
        tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
        embedding = EmbeddingWithToken(table, rows, tokenizer.convert_tokens_to_ids(token))
        return NewToken(tokenizer=tokenizer, reading=(token, " ".join(pieces)), embedding=embedding)

    @contextmanager
    def reading(self, token: NewToken) -> Iterator[None]:
        """Know ``token`` while the context lasts; one at a time."""
        table, plain = self._table(), self._tokenizer
        self._tokenizer, self._token = token.tokenizer, token.reading
        self.module.set_input_embeddings(token.embedding)
        try:
            yield
        finally:
            self.module.set_input_embeddings(table)
            self._tokenizer, self._token = plain, None

    def _table(self) -> nn.Embedding:
        table = self.module.get_input_embeddings()
        assert isinstance(table, nn.Embedding), "one token at a time"
        return table


def _pool_at_the_end(module: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Let CLIP pool at the end-of-text token.

    Many published configurations name another id there, and CLIP then takes the highest id of the prompt: the end of
    the text in the plain vocabulary, but the added token once there is one.
    """
    clip = module.text_model if isinstance(module, CLIPTextModelWithProjection) else module
    if isinstance(clip, CLIPTextModel):
        clip.eos_token_id = tokenizer.eos_token_id
