"""Denoisers with a fine-tune of their own in them, for what cannot stand beside the base's. Knows no method.

A replica shares every parameter with the base that its fine-tune leaves alone, so it costs the memory of the others.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass

from packshot.diffusion.fine_tunes import ParsedFineTune
from packshot.diffusion.methods import METHODS
from packshot.diffusion.protocols import Family


@dataclass(kw_only=True)
class _Replica:
    base: Family
    num_uses: int = 0


class Replicas:
    """At most ``max_replicas`` of one base; the one that was not used for the longest time goes first."""

    def __init__(self, *, max_replicas: int) -> None:
        self.max_replicas = max_replicas
        self._kept: OrderedDict[str, _Replica] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def acquire(self, fine_tune: ParsedFineTune, base: Family) -> Family | None:
        """``base`` with the fine-tune's denoiser, which stays until ``release``; None while all others are in use.

        Raises:
            IncompatibleFineTune: a name or shape that the base does not have.
        """
        if fine_tune.key not in self._kept:
            if not self._make_room():
                return None
            self._kept[fine_tune.key] = _Replica(base=_replica(base, fine_tune))
        self._kept.move_to_end(fine_tune.key)
        self._kept[fine_tune.key].num_uses += 1
        return self._kept[fine_tune.key].base

    def release(self, key: str) -> None:
        """Undo one ``acquire``."""
        self._kept[key].num_uses -= 1

    def _make_room(self) -> bool:
        if len(self._kept) < self.max_replicas:
            return True
        idle = next((key for key, replica in self._kept.items() if not replica.num_uses), None)
        if idle is None:
            return False
        del self._kept[idle]
        return True


def _replica(base: Family, fine_tune: ParsedFineTune) -> Family:
    shared = [*base.denoiser.parameters(), *base.denoiser.buffers()]
    denoiser = copy.deepcopy(base.denoiser, {id(tensor): tensor for tensor in shared})
    own = base.with_denoiser(denoiser)
    METHODS[fine_tune.header.method].apply(own, fine_tune.header, fine_tune.denoiser)
    return own
