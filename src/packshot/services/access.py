"""Use cases of access: make, list and revoke API keys; whose a record is; at most one answer per idempotency key."""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

from packshot.domain.access import ApiKey, Caller, Reply, parse_scopes
from packshot.domain.batches import Batch
from packshot.domain.catalog import Category, check_namespace
from packshot.domain.errors import Conflict, IdempotencyKeyReused, InvalidInput, KeyRefused, NotFound
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job
from packshot.domain.models import FineTune
from packshot.domain.training import TrainingRun
from packshot.domain.webhooks import Webhook
from packshot.ports import Records
from packshot.services.catalog import new_id, now

Owned = (
    Category | TrainingRun | FineTune | Evaluation | Generation | GeneratedImage | Webhook | Batch | EvaluationRun | Job
)
O = TypeVar("O", bound=Owned)  # noqa: E741


def create_key(records: Records, *, name: str, namespace: str, scopes: Iterable[str]) -> tuple[ApiKey, str]:
    """A new key and its secret, which is kept nowhere.

    Raises:
        InvalidInput: no name, an unknown scope, or a malformed namespace.
    """
    if not name.strip():
        raise InvalidInput("a key needs a name that says who uses it, for example 'web shop'")
    secret = f"pks_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=new_id("key"),
        namespace=check_namespace(namespace),
        name=name,
        scopes=parse_scopes(scopes),
        sha256=_sha256(secret),
        created_at=now(),
    )
    records.add(key)
    return key, secret


def revoke_key(records: Records, key_id: str) -> ApiKey:
    """End a key for good.

    Raises:
        NotFound: no such key.
        Conflict: it is revoked already.
    """
    with records.transaction():
        key = records.get(ApiKey, key_id)
        if key.revoked_at:
            raise Conflict(f"the key {key_id} was revoked at {key.revoked_at:%Y-%m-%d %H:%M} UTC")
        revoked = replace(key, revoked_at=now())
        records.replace(revoked)
    return revoked


def authenticate(records: Records, secret: str) -> Caller:
    """Whoever holds ``secret``.

    Raises:
        KeyRefused: no key has this secret, or it is revoked.
    """
    found = records.find(ApiKey, sha256=_sha256(secret))
    if not found or found[0].revoked_at:
        raise KeyRefused("the API key is unknown or revoked; make another with: packshot key create NAME --scope SCOPE")
    key = found[0]
    return Caller(namespace=key.namespace, scopes=key.scopes, key_id=key.id, name=key.name)


def owned(records: Records, kind: type[O], id_: str, namespace: str) -> O:
    """The record with this id, if it belongs to ``namespace``.

    Raises:
        NotFound: it does not exist, or belongs to somebody else: the message is the same.
    """
    record = records.get(kind, id_)
    if _namespace_of(records, record) != namespace:
        raise NotFound(f"there is no {kind.__name__} with the id {id_!r}")
    return record


def _namespace_of(records: Records, record: Owned) -> str:
    match record:
        case Category() | Generation() | Webhook() | Batch() | Job():
            return record.namespace
        case TrainingRun() | FineTune():
            return records.get(Category, record.category_id).namespace
        case Evaluation() | EvaluationRun():
            return _namespace_of(records, records.get(FineTune, record.fine_tune_id))
        case GeneratedImage():
            return records.get(Generation, record.generation_id).namespace


def once(
    records: Records, *, namespace: str, key: str, request: str, act: Callable[[], str], atomic: bool = True
) -> str:
    """What ``act()`` gives, the first time; later, and to everybody who asks at the same time, that same text.

    With ``atomic``, whatever ``act`` writes and its reply are one transaction: also after a kill the reply is there
    if and only if the deed is done. Without, ``act`` must be harmless to repeat.

    Raises:
        IdempotencyKeyReused: the key came with another ``request`` before.
    """
    fingerprint = _sha256(request)
    with records.transaction() if atomic else nullcontext():
        known = records.find(Reply, namespace=namespace, key=key)
        if known and known[0].fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                f"the idempotency key {key!r} came with another request at {known[0].created_at:%Y-%m-%d %H:%M:%S} "
                "UTC; send every new request with a new key"
            )
        if known:
            return known[0].body
        body = act()
        reply = Reply(
            id=new_id("rep"), namespace=namespace, key=key, fingerprint=fingerprint, body=body, created_at=now()
        )
        records.add(reply)
    return body


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
