"""Textual inversion (Gal et al. 2022): the token's rows learn and nothing else. Knows no family."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from packshot.diffusion.adapters import LayerAdapter
from packshot.diffusion.protocols import TOKEN_PREFIX, Attachment, Family, token_group
from packshot.diffusion.weights import WeightsHeader
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import TrainingConfig


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """The rows learn at ``config.token_learning_rate``, without weight decay."""
    del base
    return Attachment(
        groups=(token_group(rows, config.token_learning_rate),), text_encoder_learns=False, detach=lambda: None
    )


def apply(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
    """Nothing to do, for the rows are in the base already.

    Raises:
        IncompatibleFineTune: there is more than rows.
    """
    beside(base, header, tensors)
    return lambda: None


def beside(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> dict[str, LayerAdapter]:
    """Nothing stands beside the denoiser.

    Raises:
        IncompatibleFineTune: there is more than rows.
    """
    del base, header
    for name in tensors:
        if not name.startswith(TOKEN_PREFIX):
            raise IncompatibleFineTune(f"a textual inversion holds no {name!r}; train the fine-tune anew")
    return {}
