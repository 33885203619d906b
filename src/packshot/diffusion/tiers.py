"""What is kept in memory up to a number of bytes; what was not used for the longest time goes first."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Tier(Generic[K, V]):
    """Values by key, at most ``max_bytes`` of them as ``size_of`` counts; for one thread at a time."""

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._size_of = size_of
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``, made where it is not kept. One that is larger than the bound is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = make()
        size = self._size_of(value)
        if size > self.max_bytes:
            return value
        while self.num_bytes + size > self.max_bytes:
            _, gone = self._kept.popitem(last=False)
            self.num_bytes -= self._size_of(gone)
        self._kept[key] = value
        self.num_bytes += size
        return value
