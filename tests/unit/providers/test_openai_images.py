"""The image API of others behind a transport that a test answers."""

import base64
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from PIL import Image

from packshot.domain.errors import Interrupted, ProviderRefused, ProviderUnusable
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import ForeignModel
from packshot.providers import openai_images
from packshot.providers.openai_images import OpenAiImages

KEY = "sk-very-secret"
FILE = """
[other]
base_url = "https://images.example/v1"
key_variable = "OTHER_KEY"
sizes = "any"
max_images = 4
[other.settings]
seed = "random_seed"
guidance_scale = "cfg"
[other.fields]
quality = "high"
"""


def encoded(colour: str, form: str = "PNG", **options: object) -> str:
    buffer = io.BytesIO()
    Image.new("RGBA" if form == "PNG" else "RGB", (16, 8), colour).save(buffer, form, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def pictures(*colours: str, form: str = "PNG") -> httpx2.Response:
    return httpx2.Response(200, json={"created": 1, "data": [{"b64_json": encoded(each, form)} for each in colours]})


@dataclass
class Api:
    """Answers with ``replies`` in turn, whatever is asked; keeps requests and pauses."""

    images: OpenAiImages = field(init=False)
    replies: list[httpx2.Response | Exception] = field(default_factory=list)
    requests: list[httpx2.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests]

    def ask(self, *settings: str, num_images: int = 1, report=None, **sampling):
        model = ForeignModel(provider="other", name="dreamer/xl", settings=settings, price_per_image=0)
        return self.images.generate(
            model,
            "an apple",
            SamplingSettings(num_images=num_images, **sampling),
            request_id="gen_1",
            report=report or (lambda progress: self.told.append(progress.step)),
        )


@pytest.fixture
def api(tmp_path):
    (tmp_path / "providers.toml").write_text(FILE)
    api = Api()
    api.images = OpenAiImages(
        tmp_path / "providers.toml",
        transport=httpx2.MockTransport(api.answer),
        sleep=api.pauses.append,
        environment={"OTHER_KEY": KEY},
    )
    return api


def test_the_request_holds_what_the_model_is_told_and_nothing_else(api):
    api.replies = [pictures("red", "blue")]
    api.ask(num_images=2, seed=5)
    (request,) = api.requests
    assert str(request.url) == "https://images.example/v1/images/generations"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["idempotency-key"] == "gen_1-0"
    assert api.bodies == [{"model": "dreamer/xl", "prompt": "an apple", "n": 2, "quality": "high"}]


def test_settings_go_under_the_names_that_the_api_has_for_them(api):
    api.replies = [pictures("red")]
    api.ask("seed", "guidance_scale", "size", seed=5, guidance_scale=3.5, width=64, height=32)
    assert {key: api.bodies[0][key] for key in ("random_seed", "cfg", "size")} == {
        "random_seed": 5,
        "cfg": 3.5,
        "size": "64x32",
    }


def test_more_pictures_than_a_request_may_have_are_several_requests(api):
    api.replies = [pictures(*["red"] * 4), pictures(*["red"] * 2)]
    assert len(api.ask(num_images=6)) == 6
    assert [body["n"] for body in api.bodies] == [4, 2]
    assert [request.headers["idempotency-key"] for request in api.requests] == ["gen_1-0", "gen_1-4"]
    assert api.told == [0, 4, 6]


def test_with_a_seed_every_picture_is_asked_for_with_its_own(api):
    api.replies = [pictures("red"), pictures("blue"), pictures("red")]
    api.ask("seed", num_images=3, seed=7)
    assert [(body["n"], body["random_seed"]) for body in api.bodies] == [(1, 7), (1, 8), (1, 9)]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_any_format_become_pngs_without_metadata(api, form):
    api.replies = [pictures("red", form=form)]
    (png,) = api.ask()
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (16, 8), {})
        assert image.getpixel((3, 3))[0] > 250


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_asked_again_with_the_same_key(api, status):
    api.replies = [httpx2.Response(status, headers={"Retry-After": "3"}), httpx2.ConnectError("no"), pictures("red")]
    assert len(api.ask()) == 1
    assert [request.headers["idempotency-key"] for request in api.requests] == ["gen_1-0"] * 3
    assert sum(api.pauses) == 3 + 2


def test_a_date_to_come_again_is_waited_for(api):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    api.replies = [httpx2.Response(429, headers={"Retry-After": later}), pictures("red")]
    api.ask()
    assert 20 < sum(api.pauses) <= 30


def test_what_does_not_pass_soon_is_not_waited_for(api):
    api.replies = [httpx2.Response(429, headers={"Retry-After": "3600"}, json={"error": {"message": "slow down"}})]
    with pytest.raises(ProviderUnusable, match="other/dreamer/xl answered 429: slow down"):
        api.ask()
    assert api.pauses == []


def test_in_the_end_it_gives_up(api):
    api.replies = [httpx2.Response(503)] * openai_images.NUM_ATTEMPTS
    with pytest.raises(ProviderUnusable, match="answered 503: no reason given"):
        api.ask()
    assert api.replies == []


def test_a_reply_that_does_not_come_is_not_asked_for_again(api):
    api.replies = [httpx2.ReadTimeout("slow")]
    with pytest.raises(ProviderUnusable, match="timeout_s"):
        api.ask()


def test_a_pause_can_be_ended(api):
    def stop(progress):
        del progress
        if api.pauses:
            raise Interrupted("stopped")

    api.replies = [httpx2.Response(429, headers={"Retry-After": "50"})]
    with pytest.raises(Interrupted):
        api.ask(report=stop)
    assert len(api.pauses) == 1


@pytest.mark.parametrize("body", [{"error": {"message": "not\nsafe"}}, {"detail": "not safe"}, {"error": "not safe"}])
def test_a_refusal_says_why(api, body):
    api.replies = [httpx2.Response(400, json=body)]
    with pytest.raises(ProviderRefused, match=r"other/dreamer/xl refused the request \(400\): not safe"):
        api.ask()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_no_error_holds_the_key(api, status):
    api.replies = [httpx2.Response(status, json={"error": {"message": f"bad key {KEY}"}})] * 4
    with pytest.raises((ProviderUnusable, ProviderRefused), match=r"bad key \[key\]") as raised:
        api.ask()
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("key", ["", "schlüssel", "a\nb"])
def test_a_key_that_is_missing_or_no_key_is_named_by_its_variable(api, tmp_path, key):
    images = OpenAiImages(
        tmp_path / "providers.toml",
        transport=httpx2.MockTransport(api.answer),
        sleep=api.pauses.append,
        environment={"OTHER_KEY": key},
    )
    api.images = images
    with pytest.raises(ProviderUnusable, match="set OTHER_KEY") as raised:
        api.ask()
    assert not key or key not in str(raised.value)
    assert api.requests == []


def test_a_redirect_takes_the_key_nowhere(api):
    api.replies = [httpx2.Response(307, headers={"Location": "https://evil.example/"})]
    with pytest.raises(ProviderUnusable, match="307"):
        api.ask()
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (httpx2.Response(200, text="<html>"), "b64_json"),
        (httpx2.Response(200, json={"data": [{"url": "http://10.0.0.1/a.png"}]}), 'response_format = "b64_json"'),
        (httpx2.Response(200, json={"data": [{"b64_json": "!!"}]}), "b64_json"),
        (httpx2.Response(200, json={"data": [{"b64_json": base64.b64encode(b"GIF").decode()}]}), "no good picture"),
        (httpx2.Response(200, json={"data": []}), "sent 0 pictures, and 1 were asked for"),
        (pictures("red", "red"), "sent 2 pictures, and 1 were asked for"),
    ],
)
def test_a_reply_without_the_pictures_is_an_error(api, reply, message):
    api.replies = [reply]
    with pytest.raises(ProviderUnusable, match=message):
        api.ask()


def test_a_reply_without_end_is_cut_off(api, monkeypatch):
    monkeypatch.setattr(openai_images, "MAX_REPLY_BYTES", 1000)
    api.replies = [httpx2.Response(200, content=b" " * 2000)]
    with pytest.raises(ProviderUnusable, match="more than"):
        api.ask()


def test_a_provider_that_was_taken_away_since_is_named(api, tmp_path):
    (tmp_path / "providers.toml").unlink()
    with pytest.raises(ProviderUnusable, match="does not declare other"):
        api.ask()


def test_a_setting_that_was_taken_away_since_is_named(api):
    with pytest.raises(ProviderUnusable, match="negative_prompt"):
        api.ask("negative_prompt", negative_prompt="blur")
