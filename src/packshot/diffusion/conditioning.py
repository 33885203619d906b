"""Conditioning for the prompts of a batch. Prompts that nothing learned can change are encoded once for a run."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from packshot.diffusion.protocols import Conditioning, Family


class PromptConditioning:
    """Encodes prompts; ``learns`` tells of which the encoding changes as training goes on, and needs gradients."""

    def __init__(self, base: Family, learns: Callable[[str], bool]) -> None:
        self._base = base
        self._learns = learns
        self._frozen: dict[str, dict[str, Tensor]] = {}

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

    def _encode_once(self, prompt: str) -> dict[str, Tensor]:
        if prompt not in self._frozen:
            with torch.no_grad():
                encoded = self._base.encode_prompts([prompt])
            self._frozen[prompt] = {name: tensor[0] for name, tensor in encoded.items()}
        return self._frozen[prompt]
