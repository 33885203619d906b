"""Pivotal tuning (Roich et al. 2021): low-rank adapters plus a learned token. Knows no family."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from packshot.diffusion.methods import lora
from packshot.diffusion.protocols import Attachment, Family, token_group
from packshot.domain.training import TrainingConfig


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """As ``lora``, and the token's rows learn at ``config.token_learning_rate``, without weight decay."""
    adapters = lora.attach(base, rows, config)
    return replace(adapters, groups=(*adapters.groups, token_group(rows, config.token_learning_rate)))
