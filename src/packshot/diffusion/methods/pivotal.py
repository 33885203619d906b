"""Pivotal tuning (Roich et al. 2021): low-rank adapters plus a learned token. Knows no family."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from packshot.diffusion.methods import lora
from packshot.diffusion.protocols import Attachment, Family, ParameterGroup
from packshot.diffusion.weights import TOKEN_PREFIX
from packshot.domain.training import TrainingConfig


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """As ``lora``, and the token's rows learn at ``config.token_learning_rate``, without weight decay."""
    adapters = lora.attach(base, rows, config)
    for row in rows.values():
        row.requires_grad_(True)
    learned = {TOKEN_PREFIX + name: row for name, row in rows.items()}
    token = ParameterGroup(parameters=learned, learning_rate=config.token_learning_rate, decays=False)
    return replace(adapters, groups=(*adapters.groups, token))
