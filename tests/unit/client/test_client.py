"""Both clients against the application itself."""

import asyncio
import inspect
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pytest
from api import IDENTIFIER, PROMPT, platform_in, worker
from fakes import CannedFetcher

import packshot
from packshot import AsyncClient, Client
from packshot.client.flows import Pause, Progress, exchange
from packshot.client.methods import Methods
from packshot.domain.catalog import Category
from packshot.domain.errors import (
    IdentifierTaken,
    InvalidInput,
    JobFailed,
    KeyRefused,
    NotFound,
    NothingServing,
    RateLimited,
    RefusalReason,
    ServerUnusable,
    UnusedOverride,
)
from packshot.domain.jobs import JobStatus
from packshot.domain.references import ReferenceImage, Rights
from packshot.domain.templates import Template
from packshot.imaging.recipe import read_recipe
from packshot.services.manifests import ManifestLine
from packshot.web.app import create_app
from packshot.web.problems import MEDIA_TYPE, Problem

CATEGORY = Category(
    id="cat_1",
    namespace="acme",
    path="a/b",
    class_noun="apple",
    identifier="acme_b_apple",
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
)


@pytest.fixture
def platform(tmp_path):
    yield from platform_in(tmp_path)


@pytest.fixture
def client(platform) -> Client:
    platform.key("admin")
    return Client(key=platform.keys["acme", "admin"], http=platform.client)


def test_photos_come_from_urls_with_either_client(platform, client):
    category = client.create_category("apple/fuji", class_noun="apple")
    url, gone = "https://shop.example/1.png", "https://shop.example/2.png"
    ((_, (_, data)),) = platform.photos(1)
    vars(platform.space).update(fetcher=CannedFetcher({url: data}))
    taken = client.add_reference_urls(category.identifier, [url, gone], captions={url: "an apple"}, license="CC0-1.0")
    assert [photo.refusal for photo in taken] == [None, RefusalReason.UNREACHABLE]
    assert (taken[0].caption, taken[0].rights) == ("an apple", Rights(source=url, license="CC0-1.0"))

    async def add() -> list[ReferenceImage]:
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(create_app(platform.space)), base_url="http://test")
        async with AsyncClient(key=platform.keys["acme", "admin"], http=http) as there:
            return await there.add_reference_urls(category.identifier, [url], source="our web shop")

    assert asyncio.run(add()) == taken[:1]
    with pytest.raises(InvalidInput, match="no URL of a picture"):
        client.add_reference_urls(category.identifier, ["ftp://shop.example/1.png"])


def test_the_whole_way_with_typed_results(platform, client, tmp_path):
    platform.space.records.add(platform.space.bases.describe("embedded"))
    category = client.create_category("apple/fuji", class_noun="apple")
    assert type(category) is Category
    (tmp_path / "shots").mkdir()
    for name, (file_name, data) in platform.photos():
        (tmp_path / "shots" / file_name).write_bytes(data)
        assert name == "files"
    taken = client.add_references(category.identifier, [tmp_path / "shots"], source="our studio", license="CC0-1.0")
    assert [photo.rights.license for photo in taken if photo.accepted] == ["CC0-1.0"] * 8
    assert client.references(category.identifier).freezable
    assert client.freeze_references(category.identifier).version == 1
    assert client.estimate_training(category.identifier, steps=3, batch_size=2).training_images == 12

    seen: list[JobStatus] = []
    with worker(platform):
        training = client.train(category.identifier, steps=3, method="lora")
        done = client.wait_for_training(training.id, report=lambda state: seen.append(state.status), poll_s=0.01)
    assert done.fine_tune_id == client.fine_tunes(category.identifier)[0].id
    assert seen[-1] is JobStatus.SUCCEEDED
    client.promote(category.identifier, done.fine_tune_id, reason="looks right")
    assert client.alias(category.identifier).serving == done.fine_tune_id
    with worker(platform):
        first, second = client.generate(PROMPT, num_images=2, seed=7, poll_s=0.01)
    assert first != second
    recipe = read_recipe(second)
    assert recipe
    assert recipe["seed"] == 8
    started = client.start_generation(PROMPT)
    assert client.cancel_generation(started.id).status is JobStatus.CANCELED
    assert client.generation(started.id).images == []
    assert client.lineage(done.fine_tune_id).category == client.category(category.identifier).category
    platform.evaluated(done.fine_tune_id)
    assert len(client.evaluations(done.fine_tune_id)) == 1
    with worker(platform):
        asked = client.evaluate(done.fine_tune_id, images_per_scene=1)
        measured = client.wait_for_evaluation(asked.id, poll_s=0.01)
    assert measured.evaluation in client.evaluations(done.fine_tune_id)
    assert [base.source for base in client.bases()] == ["embedded"]


def test_the_asynchronous_client_does_the_same(platform):
    platform.serving()
    platform.key("admin")

    async def run() -> tuple[list[Category], list[bytes]]:
        transport = httpx2.ASGITransport(app=create_app(platform.space))
        http = httpx2.AsyncClient(transport=transport, base_url="http://server")
        async with AsyncClient(key=platform.keys["acme", "admin"], http=http) as client:
            with pytest.raises(NotFound):
                await client.category("acme_gala_apple")
            pictures = await asyncio.gather(*(client.generate(PROMPT, seed=seed, poll_s=0.01) for seed in (1, 2)))
            return await client.categories(), [png for pngs in pictures for png in pngs]

    with worker(platform):
        categories, pngs = asyncio.run(run())
    assert [category.identifier for category in categories] == [IDENTIFIER]
    assert len(set(pngs)) == 2
    assert all(png.startswith(b"\x89PNG") for png in pngs)


def test_templates_and_pictures_by_template(platform, client):
    platform.serving()
    light = {"name": "light", "kind": "text"}
    first = client.add_template("summer", light="{light}", variables=[light])
    assert (type(first), first.reference) == (Template, "summer@1")
    second = client.add_template("summer", style="a drawing", light="{light}", variables=[light])
    assert client.templates() == client.template_versions("summer") == [first, second]
    assert (client.template("summer"), client.template("summer@1")) == (second, first)
    asked = client.start_generation(model=IDENTIFIER, template="summer@1", variables={"light": "warm light"})
    assert (asked.template_id, asked.prompt) == (first.id, f"a photo of a {IDENTIFIER}, warm light")
    with worker(platform):
        (png,) = client.generate(model=IDENTIFIER, template="summer", variables={"light": "x"}, poll_s=0.01)
    assert png.startswith(b"\x89PNG")
    with pytest.raises(UnusedOverride, match="did you mean light"):
        client.start_generation(model=IDENTIFIER, template="summer", variables={"lihgt": "x"})


def test_a_batch_and_its_files(platform, client):
    platform.serving()
    client.create_category("apple/gala", class_noun="apple")
    client.add_template("summer")
    categories = [IDENTIFIER, "acme_gala_apple"]
    assert client.estimate_batch(categories, ["summer"], num_images=2).pictures == 2
    told = client.estimate_generation(f"{IDENTIFIER} on grass", num_images=3, inference_steps=10)
    assert (told.pictures, told.denoising_steps, told.models[0].version) == (3, 30, 1)
    (version,) = client.fine_tunes(IDENTIFIER)
    assert client.estimate_evaluation(version.id, images_per_scene=1).pictures == 48
    started = client.start_batch(categories, ["summer"], num_images=2)
    seen: list[JobStatus] = []
    with worker(platform):
        done = client.wait_for_batch(started.id, report=lambda state: seen.append(state.status), poll_s=0.01)
    assert (done.num_made, [each.type for each in done.failures]) == (2, ["/problems/nothing-serving"])
    assert seen[-1] is JobStatus.SUCCEEDED
    lines = client.batch_manifest(started.id)
    assert [(type(line), line.seed) for line in lines] == [(ManifestLine, 0), (ManifestLine, 1), (ManifestLine, None)]
    with zipfile.ZipFile(io.BytesIO(client.batch_pictures(started.id))) as archive:
        assert archive.read(lines[0].file) == client.image(lines[0].image_id)
    assert client.batch_sheet(started.id).startswith(b"\x89PNG")
    assert [batch.id for batch in client.batches()] == [started.id]
    again = client.start_batch(categories, ["summer"])
    assert client.cancel_batch(again.id).status is JobStatus.CANCELED
    with pytest.raises(JobFailed, match="canceled"):
        client.wait_for_batch(again.id, poll_s=0.01)
    assert client.batch(again.id).num_made == 0


def test_a_refusal_is_the_error_that_the_service_raises(platform, client):
    client.create_category("apple/fuji", class_noun="apple")
    for error, act in (
        (IdentifierTaken, lambda: client.create_category("b", class_noun="apple", identifier="acme_fuji_apple")),
        (NotFound, lambda: client.category("acme_gala_apple")),
        (NothingServing, lambda: client.generate(PROMPT)),
        (KeyRefused, lambda: Client(key="wrong", http=platform.client).categories()),
        (InvalidInput, lambda: client.add_references(IDENTIFIER, ["/nowhere/1.png"])),
        (InvalidInput, lambda: client.create_category(7, class_noun="apple")),
    ):
        with pytest.raises(error) as raised:
            act()
        assert type(raised.value) is error


def test_a_long_list_comes_whole(platform, client):
    for number in range(205):
        platform.space.records.add(
            Category(
                id=f"cat_{number}",
                namespace="acme",
                path=f"p/n{number:03}",
                class_noun="apple",
                identifier=f"acme_{number}x_apple",
                created_at=platform.space.bases.describe("embedded").registered_at,
            )
        )
    assert [category.path for category in client.categories("p/")] == [f"p/n{number:03}" for number in range(205)]


def test_what_failed_or_was_canceled_is_not_waited_for(platform, client):
    platform.serving()
    platform.space.generator.failure = MemoryError("no room")
    with worker(platform), pytest.raises(JobFailed, match="no room"):
        client.generate(PROMPT, poll_s=0.01)
    training = client.train(IDENTIFIER, seed=3)
    client.cancel_training(training.id)
    with pytest.raises(JobFailed, match="canceled"):
        client.wait_for_training(training.id)


# a connection that is no good


def answering(answer: Callable[[httpx2.Request], httpx2.Response], monkeypatch) -> Client:
    monkeypatch.setattr("time.sleep", lambda _: None)
    return Client(http=httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://server"))


def test_a_broken_connection_is_tried_again_with_the_same_idempotency_key(monkeypatch):
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["idempotency-key"])
        if len(asked) == 1:
            raise httpx2.ConnectError("refused")
        if len(asked) == 2:
            return httpx2.Response(503, json={})
        return httpx2.Response(
            201, json={**vars(CATEGORY), "created_at": CATEGORY.created_at.isoformat(), "retired_at": None}
        )

    client = answering(answer, monkeypatch)
    assert client.create_category("a/b", class_noun="apple") == CATEGORY
    assert (len(asked), len(set(asked))) == (3, 1)
    client.create_category("a/b", class_noun="apple")
    assert len(set(asked)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: httpx2.Response(200, text="hello"),
        lambda request: httpx2.Response(404, text="nginx"),
        lambda request: httpx2.Response(503, text="busy"),
        lambda request: (_ for _ in ()).throw(httpx2.ConnectTimeout("too slow")),
    ],
)
def test_a_server_that_does_not_answer_as_it_should_is_reported(monkeypatch, answer):
    with pytest.raises(ServerUnusable):
        answering(answer, monkeypatch).category("acme_fuji_apple")


# what is there


def test_both_clients_have_the_same_documented_methods():
    names = {name for name, _ in inspect.getmembers(Client) if not name.startswith("_")}
    assert names == {name for name, _ in inspect.getmembers(AsyncClient) if not name.startswith("_")}
    assert {name for name in dir(Methods) if not name.startswith("_")} | {"carry_out", "close"} == names
    assert all(inspect.getdoc(getattr(Methods, name)) for name in names - {"carry_out", "close"})


def test_the_package_offers_the_clients_and_loads_them_late():
    assert set(packshot.__all__) == {"AsyncClient", "Client", "Engine", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        packshot.Clients  # noqa: B018
    program = (
        "import sys, packshot; assert 'httpx2' not in sys.modules; packshot.Client; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def refusal(status: int, retry_after: int) -> httpx2.Response:
    problem = Problem(
        type="/problems/rate-limited", title="", status=status, detail="too fast", instance="/", request_id=""
    )
    headers = {"Retry-After": str(retry_after), "Content-Type": MEDIA_TYPE}
    return httpx2.Response(status, headers=headers, content=problem.model_dump_json())


def test_a_client_that_is_too_fast_waits_as_long_as_it_is_told():
    flow = Progress(exchange("GET", "/v1/bases"))
    assert flow.advance(None)
    asked = flow.step
    assert flow.advance(refusal(429, 3))
    assert flow.step == Pause(3.0)
    assert flow.advance(None)
    assert flow.step == asked
    assert not flow.advance(httpx2.Response(200))
    assert flow.result.status_code == 200


def test_a_client_does_not_wait_for_long():
    flow = Progress(exchange("GET", "/v1/bases"))
    flow.advance(None)
    with pytest.raises(RateLimited, match="too fast"):
        flow.advance(refusal(429, 60))
