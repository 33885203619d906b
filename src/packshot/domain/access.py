"""Who may do what: API keys with scopes, each in the namespace of a team. Does not know how a key travels."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from packshot.domain.errors import InvalidInput, ScopeMissing


class Scope(StrEnum):
    """What a key may do. Every key may read what its namespace holds; ``admin`` may do everything there."""

    READ = "read"
    GENERATE = "generate"
    TRAIN = "train"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key of a team: its secret is shown once, when it is made; ``sha256`` is all that is kept of it."""

    id: str
    namespace: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whoever makes a request: the namespace they see, and what they may do there."""

    namespace: str
    scopes: tuple[Scope, ...]

    def check(self, scope: Scope) -> None:
        """Check that the caller has ``scope``.

        Raises:
            ScopeMissing: neither it nor ``admin``.
        """
        if scope is not Scope.READ and scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise ScopeMissing(
                f"this needs a key with the scope {scope}, and this one has {', '.join(self.scopes)}; "
                f"make one with: packshot key create NAME --scope {scope}"
            )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a request with an idempotency key was answered. ``fingerprint`` is the sha256 of that request."""

    id: str
    namespace: str
    key: str
    fingerprint: str
    body: str
    created_at: datetime


def parse_scopes(names: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes of these names, each once, in the order of ``Scope``.

    Raises:
        InvalidInput: an unknown name, or none at all.
    """
    given = list(names)
    unknown = [name for name in given if name not in set(Scope)]
    if unknown or not given:
        raise InvalidInput(f"{', '.join(unknown) or 'nothing'} is no scope; give some of {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in given)
