import pytest

from packshot.domain.access import Caller, Scope, parse_scopes
from packshot.domain.catalog import check_namespace
from packshot.domain.errors import InvalidInput, ScopeMissing


def may(*scopes: Scope) -> set[Scope]:
    caller = Caller(namespace="sks", scopes=scopes)
    allowed: set[Scope] = set()
    for scope in Scope:
        try:
            caller.check(scope)
        except ScopeMissing:
            continue
        allowed.add(scope)
    return allowed


def test_every_key_may_read_and_an_admin_everything():
    assert may(Scope.READ) == {Scope.READ}
    assert may(Scope.GENERATE) == {Scope.READ, Scope.GENERATE}
    assert may(Scope.TRAIN) == {Scope.READ, Scope.TRAIN}
    assert may(Scope.ADMIN) == set(Scope)


def test_a_missing_scope_is_named():
    with pytest.raises(ScopeMissing, match=r"scope train, and this one has read, generate; .*--scope train"):
        Caller(namespace="sks", scopes=(Scope.READ, Scope.GENERATE)).check(Scope.TRAIN)


def test_scopes_are_read_once_each_in_order():
    assert parse_scopes(["train", "read", "train"]) == (Scope.READ, Scope.TRAIN)


@pytest.mark.parametrize("names", [[], ["write"], ["read", "Admin"]])
def test_an_unknown_scope_or_none_is_refused(names):
    with pytest.raises(InvalidInput, match="read, generate, train, admin"):
        parse_scopes(names)


@pytest.mark.parametrize("namespace", ["", "Sks", "1st", "a_b", "a" * 17, "sks\n", "ѕks"])
def test_a_namespace_is_one_short_lower_case_word(namespace):
    assert check_namespace("a" * 16)
    with pytest.raises(InvalidInput, match="is not a namespace"):
        check_namespace(namespace)
