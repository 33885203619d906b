"""Who may do what, how much of it, and who did: API keys with scopes, quotas, audit entries, each of a team's namespace.

Does not know how a key travels.
"""

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
    """Whoever makes a request: the namespace they see, and what they may do there. ``name`` is for people."""

    namespace: str
    scopes: tuple[Scope, ...]
    key_id: str = ""
    name: str = ""

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


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a namespace may ask for; the newest of a namespace holds, None = the operator's setting."""

    id: str
    namespace: str
    requests_per_minute: int | None
    max_unfinished_jobs: int | None
    created_at: datetime

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            InvalidInput: a limit below one.
        """
        for name in ("requests_per_minute", "max_unfinished_jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"{name} is {value}; give at least 1")


class AuditAction(StrEnum):
    """What an audit entry is about."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETIRE = "retire"
    REMOVE_REFERENCES = "remove-references"
    CREATE_KEY = "create-key"
    REVOKE_KEY = "revoke-key"
    SET_QUOTA = "set-quota"
    ADD_WEBHOOK = "add-webhook"
    DISABLE_WEBHOOK = "disable-webhook"


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Who did what to what, and why. Never changes; ``actor`` is a key with its name, or somebody at the machine."""

    id: str
    namespace: str
    actor: str
    action: AuditAction
    subject: str
    reason: str
    request_id: str
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
