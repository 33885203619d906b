"""Conditioning for the prompts of a batch. Prompts that nothing learned can change are encoded once for a run."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from packshot.diffusion.protocols import Conditioning


class EncodesPrompts(Protocol):
    """The part of ``Family`` that is used here."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts to conditioning."""
        ...


class PromptConditioning:
    """Encodes prompts; ``learns`` tells of which the encoding changes as training goes on, and needs gradients.

    ``known`` holds what prompts are encoded to that every training on the base encodes alike; ``own`` tells of which
    the encoding is this training's own all the same.
    """

    def __init__(
        self,
        base: EncodesPrompts,
        learns: Callable[[str], bool],
        *,
        known: dict[str, Conditioning] | None = None,
        own: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._base = base
        self._learns = learns
        self._known = {} if known is None else known
        self._own = own
        self._frozen: dict[str, Conditioning] = {}

    def __call__(self, prompts: Sequence[str]) -> Conditioning:
        """Row i of every tensor belongs to prompt i. A prompt that occurs twice is encoded once."""
        different = list(dict.fromkeys(prompts))
        learning = [prompt for prompt in different if self._learns(prompt)]
        rows = {prompt: self._encode_once(prompt) for prompt in different if not self._learns(prompt)}
        if learning:
            encoded = self._base.encode_prompts(learning)
            for number, prompt in enumerate(learning):
                rows[prompt] = {name: tensor[number] for name, tensor in encoded.items()}
        return {name: torch.stack([rows[prompt][name] for prompt in prompts]) for name in rows[prompts[0]]}

    def _encode_once(self, prompt: str) -> Conditioning:
        kept = self._frozen if self._own(prompt) else self._known
        if prompt not in kept:
            with torch.no_grad():
                encoded = self._base.encode_prompts([prompt])
            kept[prompt] = {name: tensor[0] for name, tensor in encoded.items()}
        return kept[prompt]
