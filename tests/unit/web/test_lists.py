"""Lists: every page costs the same number of questions to the database, and pages make up the whole list."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from api import IDENTIFIER, PROMPT, Platform, platform_in
from sqlalchemy import event

LISTS = (
    "/v1/categories",
    "/v1/categories?q=kind",
    "/v1/catalog",
    "/v1/trainings",
    "/v1/fine-tunes",
    f"/v1/fine-tunes?category={IDENTIFIER}",
    "/v1/evaluations",
    "/v1/templates",
    "/v1/templates/table/versions",
    "/v1/generations",
    "/v1/batches",
    "/v1/jobs",
    "/v1/jobs?status=succeeded",
    "/v1/audit",
    "/v1/webhooks",
    "/v1/bases",
)


@contextmanager
def statements(platform: Platform) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    engine = platform.space.records._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Three and more of everything that is listed."""
    for platform in platform_in(tmp_path_factory.mktemp("lists")):
        fill(platform)
        yield platform


def fill(platform: Platform) -> None:
    fine_tune_id = platform.serving()
    for number in range(3):
        platform.call("POST", "/v1/categories", json={"path": f"x/kind-{number}", "class_noun": "pear"}, status=201)
        platform.train(seed=number)
        platform.call("POST", "/v1/templates", json={"name": "table", "background": f"table {number}"}, status=201)
        platform.call("POST", "/v1/generations", json={"prompt": PROMPT, "num_images": 2}, status=202)
        platform.call(
            "POST", "/v1/batches", json={"categories": [IDENTIFIER], "templates": ["table"], "seed": number}, status=202
        )
        body = {"fine_tune_id": fine_tune_id, "images_per_scene": 1, "seed": number}
        platform.call("POST", "/v1/evaluations", json=body, status=202)
        platform.call("POST", "/v1/webhooks", json={"url": f"https://shop.example/{number}"}, status=201)
        platform.evaluated(fine_tune_id)
        platform.work()


def part(path: str, limit: int, cursor: str | None = None) -> str:
    query = f"limit={limit}" + (f"&cursor={cursor}" if cursor else "")
    return f"{path}{'&' if '?' in path else '?'}{query}"


def test_pages_make_up_each_list_and_cost_the_same(filled: Platform) -> None:
    for path in LISTS:
        whole = filled.call("GET", path)
        with statements(filled) as for_three:
            filled.call("GET", part(path, 3))
        with statements(filled) as for_one:
            page = filled.call("GET", part(path, 1))
        assert len(for_three) == len(for_one), f"{path}: {for_three}"
        paged, costs = page["items"], set[int]()
        while page["next"]:
            with statements(filled) as asked:
                page = filled.call("GET", part(path, 1, page["next"]))
            costs.add(len(asked))
            paged += page["items"]
        assert paged == whole["items"], path
        assert len(paged) >= (1 if path == "/v1/bases" else 3), path
        assert len(costs) <= 1 or path == "/v1/evaluations", f"{path}: {costs}"


def test_no_list_is_read_whole(filled: Platform) -> None:
    for path in LISTS:
        with statements(filled) as asked:
            filled.call("GET", part(path, 1))
        listed = [each for each in asked if "LIMIT" in each]
        assert listed, f"{path}: {asked}"


def test_evaluations_of_both_kinds_come_by_their_age(filled: Platform) -> None:
    items = filled.call("GET", "/v1/evaluations")["items"]
    assert [each["created_at"] for each in items] == sorted(each["created_at"] for each in items)
    assert [each["job_id"] is None for each in items] == [False, True] * 3
    assert len({each["id"] for each in items}) == 6


def test_a_cursor_of_another_list_is_refused(filled: Platform) -> None:
    batch = filled.call("GET", "/v1/batches")["items"][0]["id"]
    for path in LISTS:
        if path != "/v1/batches":
            reply = filled.call("GET", part(path, 1, batch), status=422)
            assert "no cursor of this list" in reply["detail"]


def test_the_catalog_says_what_each_category_has(filled: Platform) -> None:
    by_path = {each["category"]["path"]: each for each in filled.call("GET", "/v1/catalog")["items"]}
    for path, summary in by_path.items():
        one = filled.call("GET", f"/v1/categories/{summary['category']['identifier']}")
        assert one == summary, path
    assert by_path["apple/fuji"]["serving_version"] == 1
    assert by_path["apple/fuji"]["num_references"] == 8
    assert by_path["x/kind-0"]["fine_tunes"] == []
