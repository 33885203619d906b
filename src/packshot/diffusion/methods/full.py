"""Full fine-tuning (Ruiz et al. 2023, DreamBooth): every parameter of the denoiser learns. Knows no family."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from packshot.diffusion.protocols import Attachment, Family, ParameterGroup, token_group
from packshot.diffusion.swap import parameter_of, swap_parameters
from packshot.diffusion.text_encoders import EmbeddingWithToken
from packshot.diffusion.weights import WeightsHeader
from packshot.domain.errors import IncompatibleFineTune
from packshot.domain.training import TrainingConfig

DELTA = ".delta"  # behind the name of a parameter that is stored as its difference from the base's


def attach(base: Family, rows: Mapping[str, nn.Parameter], config: TrainingConfig) -> Attachment:
    """Copies of all parameters take the place of the base's own and learn at ``config.learning_rate``.

    With ``train_text_encoder`` the text encoders learn too, and with them the token's rows, at
    ``config.token_learning_rate`` and without weight decay. Their vocabulary tables do not learn: weight decay would
    shrink the rows of every word that no prompt uses.
    """
    modules = {base.prefix: (base.denoiser, config.learning_rate)}
    groups: list[ParameterGroup] = []
    if config.train_text_encoder:
        rate = config.rate_of_text_encoders
        modules |= {name: (encoder, rate) for name, encoder in base.trainable_text_encoders.items()}
    undo: list[Callable[[], None]] = []
    for prefix, (module, rate) in modules.items():
        copies, put_back = swap_parameters(module, _own_parameters(module), requires_grad=True)
        undo.append(put_back)
        named = {f"{prefix}.{name}": copy for name, copy in copies.items()}
        groups.append(ParameterGroup(parameters=named, learning_rate=rate))
    if config.train_text_encoder:
        groups.append(token_group(rows, config.token_learning_rate))
    return Attachment(
        groups=tuple(groups), text_encoder_learns=config.train_text_encoder, detach=lambda: _call_all(undo)
    )


def apply(base: Family, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
    """Put the learned parameters in the base's place; returns how to put the base's own back.

    Raises:
        IncompatibleFineTune: a name or shape that the base does not have.
    """
    del header
    undo: list[Callable[[], None]] = []
    for prefix, module in {base.prefix: base.denoiser, **base.text_encoders}.items():
        start = f"{prefix}."
        of_module = {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
        try:
            of_module = dict(_whole(module, name, tensor) for name, tensor in of_module.items())
            undo.append(swap_parameters(module, of_module)[1])
        except BaseException:
            _call_all(undo)
            raise
    return lambda: _call_all(undo)


def _whole(module: nn.Module, name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Name and value of a parameter; one that is stored as a difference is the base's plus that, in 32-bit floats."""
    placed = _placed(module, name.removesuffix(DELTA))
    if name == name.removesuffix(DELTA):
        return placed, tensor
    own = parameter_of(module, placed).detach()
    if own.shape != tensor.shape:
        raise IncompatibleFineTune(f"{name} has the shape {tuple(tensor.shape)}, and the base's is {tuple(own.shape)}")
    return placed, own.float() + tensor.to(own.device)


def _placed(module: nn.Module, name: str) -> str:
    """The name of a parameter while a token is added, which puts a vocabulary's table one level deeper."""
    path, _, leaf = name.rpartition(".")
    table = getattr(module, "get_input_embeddings", lambda: None)()
    behind = isinstance(table, EmbeddingWithToken) and any(
        each is table and place == path for place, each in module.named_modules()
    )
    return f"{path}.table.{leaf}" if behind else name


def _own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    get_table = getattr(module, "get_input_embeddings", None)
    skipped = {id(parameter) for parameter in get_table().parameters()} if get_table else set[int]()
    return {name: parameter for name, parameter in module.named_parameters() if id(parameter) not in skipped}


def _call_all(undo: list[Callable[[], None]]) -> None:
    for put_back in undo:
        put_back()
