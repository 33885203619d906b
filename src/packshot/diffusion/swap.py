"""Puts other tensors in place of a module's parameters, and the very same parameters back. Knows no method."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from packshot.domain.errors import IncompatibleFineTune


def swap_parameters(
    module: nn.Module, tensors: Mapping[str, Tensor], *, requires_grad: bool = False
) -> tuple[dict[str, nn.Parameter], Callable[[], None]]:
    """Replace the parameters named in ``tensors`` by copies of the tensors; returns the copies and how to undo it.

    The replaced parameters are kept aside untouched, so that undoing is exact.

    Raises:
        IncompatibleFineTune: a name or shape that the module does not have; nothing is replaced then.
    """
    originals = {name: parameter_of(module, name) for name in tensors}
    copies: dict[str, nn.Parameter] = {}
    for name, tensor in tensors.items():
        if tensor.shape != originals[name].shape:
            raise IncompatibleFineTune(
                f"{name} has the shape {tuple(tensor.shape)} in the fine-tune and {tuple(originals[name].shape)} in "
                "the base; it was trained on another base"
            )
        copied = torch.empty_like(originals[name]).copy_(tensor)
        copies[name] = nn.Parameter(copied, requires_grad=requires_grad)
    _set(module, copies)
    return copies, lambda: _set(module, originals)


def _set(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        path, _, leaf = name.rpartition(".")
        module.get_submodule(path).register_parameter(leaf, parameter)


def parameter_of(module: nn.Module, name: str) -> nn.Parameter:
    """The module's parameter of this name.

    Raises:
        IncompatibleFineTune: it has none.
    """
    try:
        return module.get_parameter(name)
    except AttributeError:
        raise IncompatibleFineTune(
            f"the base has no parameter {name!r}; the fine-tune was trained on another base"
        ) from None
