"""Pivotal tuning (Roich et al. 2021, here as adapters plus a learned token, as in textual inversion). Knows no family."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from packshot.diffusion.methods import lora
from packshot.diffusion.protocols import Attachment, Family, ParameterGroup
from packshot.diffusion.weights import TOKEN_PREFIX
from packshot.domain.training import TrainingConfig


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """As ``lora``, and the token's rows learn at ``config.token_learning_rate``."""
    adapters = lora.attach(base, rows, config)
    learned = {TOKEN_PREFIX + name: row.requires_grad_(True) for name, row in rows.items()}
    token = ParameterGroup(parameters=learned, learning_rate=config.token_learning_rate)
    return replace(adapters, groups=(*adapters.groups, token))
