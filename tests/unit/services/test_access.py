import threading
from datetime import UTC, datetime

import pytest

from packshot.domain.access import ApiKey, Caller, Reply, Scope
from packshot.domain.catalog import Category
from packshot.domain.errors import Conflict, IdempotencyKeyReused, InvalidInput, KeyRefused, NotFound
from packshot.domain.evaluation import Evaluation
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.models import FineTune
from packshot.domain.training import TrainingRun
from packshot.services.access import authenticate, create_key, once, owned, revoke_key
from packshot.services.catalog import add_category
from packshot.services.evaluation import evaluate
from packshot.services.generation import generate


def new_key(space, **changes):
    return create_key(space.records, **{"name": "web shop", "namespace": "acme", "scopes": ["read"], **changes})


def test_a_secret_opens_its_namespace_and_is_kept_nowhere(space):
    key, secret = new_key(space, scopes=["train", "read"])
    caller = Caller(namespace="acme", scopes=(Scope.READ, Scope.TRAIN), key_id=key.id, name=key.name)
    assert authenticate(space.records, secret) == caller
    assert space.records.find(ApiKey) == [key]
    assert secret.removeprefix("pks_") not in repr(key)


def test_no_two_secrets_are_equal(space):
    assert len({new_key(space)[1] for _ in range(50)}) == 50


@pytest.mark.parametrize("change", [str.upper, lambda secret: secret[:-1], lambda secret: "", lambda secret: "pks_"])
def test_another_secret_opens_nothing(space, change):
    _, secret = new_key(space)
    with pytest.raises(KeyRefused, match="packshot key create"):
        authenticate(space.records, change(secret))


def test_the_stored_digest_is_no_secret(space):
    key, _ = new_key(space)
    with pytest.raises(KeyRefused):
        authenticate(space.records, key.sha256)


def test_a_revoked_key_opens_nothing_and_stays_on_record(space):
    key, secret = new_key(space)
    revoked = revoke_key(space.records, key.id)
    with pytest.raises(KeyRefused):
        authenticate(space.records, secret)
    assert space.records.find(ApiKey) == [revoked]
    assert revoked.revoked_at
    with pytest.raises(Conflict, match="was revoked at"):
        revoke_key(space.records, key.id)
    with pytest.raises(NotFound):
        revoke_key(space.records, "key_none")


@pytest.mark.parametrize("changes", [{"name": " "}, {"namespace": "Acme"}, {"scopes": ["write"]}, {"scopes": []}])
def test_a_malformed_key_is_not_made(space, changes):
    with pytest.raises(InvalidInput):
        new_key(space, **changes)
    assert space.records.find(ApiKey) == []


def test_what_belongs_to_another_namespace_is_not_found_in_the_words_for_what_does_not_exist(space):
    category = space.category(num_photos=8)
    fine_tune = space.fine_tune(category)
    evaluation = evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune)
    generation, (image,) = generate(
        space.records,
        space.blobs,
        space.generator,
        "an apple",
        SamplingSettings(),
        bare_base=space.base,
        code_revision="",
    )
    run = space.records.get(TrainingRun, fine_tune.training_run_id)
    for record in (category, run, fine_tune, evaluation, generation, image):
        kind = type(record)
        assert owned(space.records, kind, record.id, "sks") == record
        with pytest.raises(NotFound) as foreign:
            owned(space.records, kind, record.id, "acme")
        with pytest.raises(NotFound) as missing:
            owned(space.records, kind, "x" * len(record.id), "acme")
        assert str(foreign.value) == str(missing.value).replace("x" * len(record.id), record.id)
    kinds = {type(record) for record in (category, run, fine_tune, evaluation, generation, image)}
    assert kinds == {Category, TrainingRun, FineTune, Evaluation, Generation, GeneratedImage}


def ask(space, request="body", key="order 7", namespace="sks", atomic=True, act=None):
    def add() -> str:
        return add_category(space.records, path=f"p/{datetime.now(UTC):%H%M%S%f}", class_noun="apple").id

    return once(space.records, namespace=namespace, key=key, request=request, act=act or add, atomic=atomic)


@pytest.mark.parametrize("atomic", [True, False])
def test_the_same_request_is_carried_out_once(space, atomic):
    first = ask(space, atomic=atomic)
    assert ask(space, atomic=atomic) == first
    assert [category.id for category in space.records.find(Category)] == [first]


def test_another_key_or_namespace_is_another_request(space):
    assert len({ask(space), ask(space, key="order 8"), ask(space, namespace="acme")}) == 3


def test_a_key_that_came_with_another_request_is_refused(space):
    ask(space)
    with pytest.raises(IdempotencyKeyReused, match="'order 7' came with another request"):
        ask(space, request="another body")
    assert len(space.records.find(Category)) == 1


def test_what_fails_is_not_remembered_and_leaves_nothing(space):
    def fail() -> str:
        add_category(space.records, path="a/b", class_noun="apple")
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        ask(space, act=fail)
    assert space.records.find(Category) == space.records.find(Reply) == []
    assert ask(space) == space.records.find(Category)[0].id


def test_of_many_at_once_one_acts(space):
    barrier = threading.Barrier(16)
    replies: list[str] = []

    def run() -> None:
        barrier.wait()
        replies.append(ask(space))

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 16
    assert set(replies) == {category.id for category in space.records.find(Category)}
    assert len(space.records.find(Category)) == 1
