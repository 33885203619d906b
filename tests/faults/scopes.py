"""Fault tests 18 and 22: paths that lead elsewhere in place of ids, and prompts and captions that name what is not one's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from api import IDENTIFIER, Platform, platform_in

from faults.named_photos import photos_by
from faults.registry import Check, Setting, fault
from packshot.domain.catalog import Category
from packshot.domain.generation import Generation
from packshot.domain.models import FineTune

FOREIGN = "rival_fuji_apple"
CANARY = "canary-of-the-outside"
PATHS = (
    "..",
    "../../canary.txt",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "....//....//canary.txt",
    "..\\..\\canary.txt",
    "C:\\canary.txt",
    "file:///etc/passwd",
    "canary.txt\0.png",
    "\0",
    "%2e%2e%2fcanary.txt",
    "%252e%252e%252fcanary.txt",
    "．．／canary.txt",
    "‥/canary.txt",
    "link/canary.txt",
    "a" * 5000,
    "\u202egnp.yranac",
    "{folder}/canary.txt",
    "$HOME",
    "~root",
)


@fault(18, "paths for ids", passes="nothing outside the root touched; always a 4xx")
def paths_for_ids(setting: Setting) -> list[Check]:
    """Every path parameter of the OpenAPI document, with each path plain and encoded, the fields of bodies, and photos by
    such names, in archives and by URL.
    """
    (setting.workdir / "canary.txt").write_text(CANARY)
    tried, failures = 0, []
    for platform in platform_in(setting.workdir / "platform", requests_per_minute=1_000_000):
        (platform.folder / "link").symlink_to(setting.workdir)
        before = sorted(setting.workdir.rglob("*"))
        document = platform.client.get("/openapi.json").json()
        routes = [(method, path) for path, each in document["paths"].items() for method in each if "{" in path]
        for method, path in routes[:: 12 if setting.quick else 1]:
            for bad in PATHS:
                for written in (quote(bad, safe=""), quote(quote(bad, safe=""), safe=""), quote(bad)):
                    failures += _asked(platform, method, _filled(path, written))
                    tried += 1
        for body in _bodies()[:: 5 if setting.quick else 1]:
            failures += _asked(platform, *body)
            tried += 1
        after = sorted(path for path in setting.workdir.rglob("*") if "packshot.db" not in path.name)
        touched = sorted({*after} ^ {path for path in before if "packshot.db" not in path.name})
        sent = photos_by(PATHS, platform, CANARY)
        outside = _outside(setting.workdir, list(setting.workdir.rglob("*"))) ^ _outside(setting.workdir, before)
    return [
        Check(
            label="4xx, and nothing of the outside told", cases=tried, passed=tried - len(failures), failures=failures
        ),
        Check(label="no file made or removed", cases=1, passed=int(not touched), failures=list(map(str, touched))),
        Check(
            label="no photo by such a name, from an archive or a URL",
            cases=len(sent),
            passed=sent.count(""),
            failures=[each for each in sent if each],
        ),
        Check(
            label="nothing outside the workspace made or removed by them",
            cases=len(sent),
            passed=len(sent) - len(outside),
            failures=sorted(map(str, outside)),
        ),
    ]


def _outside(root: Path, paths: list[Path]) -> set[Path]:
    return {path for path in paths if root / "platform" / "workspace" not in (path, *path.parents)}


def _filled(path: str, value: str) -> str:
    head, _, rest = path.partition("{")
    return f"{head}{value}{rest.partition('}')[2]}"


def _bodies() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        each
        for bad in PATHS
        for each in (
            ("POST", "/v1/categories", {"path": bad, "class_noun": "apple"}),
            ("POST", "/v1/trainings", {"category": bad}),
            ("POST", "/v1/evaluations", {"fine_tune_id": bad}),
            ("POST", "/v1/templates", {"name": bad}),
            ("POST", "/v1/generations", {"prompt": "an apple", "model": bad}),
            ("POST", "/v1/generations", {"template": bad, "category": "acme_fuji_apple"}),
            ("POST", "/v1/batches", {"categories": [bad], "templates": [bad]}),
            ("POST", "/v1/webhooks", {"url": bad}),
        )
    ]


def _asked(platform: Platform, method: str, path: str, body: dict[str, Any] | None = None) -> list[str]:
    reply = platform.client.request(method, path, json=body, headers=platform.key("admin"))
    # What is left of "/.." and the like may be the path of a list, which the caller may see.
    is_list = method.upper() == "GET" and reply.status_code == 200 and set(reply.json()) == {"items", "next"}
    if (400 <= reply.status_code < 500 or is_list) and CANARY not in reply.text and "root:" not in reply.text:
        return []
    return [f"{method} {path} {body or ''}: {reply.status_code} {reply.text[:200]}"]


@dataclass(frozen=True)
class Two:
    """Two teams with a serving fine-tune each."""

    platform: Platform
    own: FineTune
    foreign: FineTune


HOSTILE = (
    FOREIGN,
    f"{IDENTIFIER} and {FOREIGN}",
    "RIVAL_Fuji_Apple",
    "ｒｉｖａｌ＿ｆｕｊｉ＿ａｐｐｌｅ",
    "rival_fuji_аpple",
    "rival\u200b_fuji_apple",
    "rival_fu\u00adji_apple",
    "rival_fuji",
    "rival_",
    "{rival_fuji_apple}",
    "{{identifier}}",
    "${FOREIGN}",
    "{0.__class__}",
    "%(identifier)s",
    "<lora:rival_fuji_apple:1>",
    "<lora:weights>",
    "\uff1clora:weights:1\uff1e",
    "[from:rival_fuji_apple:0.5]",
    "an apple\0rival_fuji_apple",
    "an apple\x1b[2J",
    "an apple\u202erival_fuji_apple",
    "an apple\u2028rival_fuji_apple",
    "an apple\r\nrival_fuji_apple",
    "<|endoftext|> rival_fuji_apple",
)


@fault(22, "prompts", passes="never resolves beyond the caller's scope")
def prompts(setting: Setting) -> list[Check]:
    """As prompt, negative prompt, model, variable, text of a template, category of a batch, and caption of a photo."""
    tried, failures = 0, []
    for platform in platform_in(setting.workdir):
        two = _two(platform)
        texts = [
            *HOSTILE[:: 3 if setting.quick else 1],
            two.foreign.trained_phrase,
            f"{IDENTIFIER} and {two.foreign.trained_phrase}",
        ]
        for text in texts:
            for path, body in _ways(text):
                reply = platform.client.post(path, json=body, headers=platform.key("admin"))
                failures += _beyond(two, f"{path} {json.dumps(body)}", reply.status_code)
                tried += 1
        captioned = _captions(two, texts)
    return [
        Check(
            label="refused, or answered within the scope", cases=tried, passed=tried - len(failures), failures=failures
        ),
        Check(
            label="captions name no other phrase",
            cases=len(texts),
            passed=len(texts) - len(captioned),
            failures=captioned,
        ),
    ]


def _two(platform: Platform) -> Two:
    own = platform.serving()
    key = platform.key("admin", team="rival")

    def rival(path: str, status: int, **options: Any) -> Any:
        return platform.call("POST", path, status=status, key=key, **options)

    rival("/v1/categories", 201, json={"path": "apple/fuji", "class_noun": "apple"})
    rival(f"/v1/categories/{FOREIGN}/references", 201, files=platform.photos())
    rival(f"/v1/categories/{FOREIGN}/references/freeze", 201)
    training = rival("/v1/trainings", 202, json={"category": FOREIGN, "config": {"steps": 3}})
    platform.work()
    foreign = platform.call("GET", training["urls"]["get"], key=key)["fine_tune_id"]
    rival(f"/v1/categories/{FOREIGN}/alias/promote", 200, json={"fine_tune_id": foreign, "reason": "a test"})
    records = platform.space.records
    return Two(platform, records.get(FineTune, own), records.get(FineTune, foreign))


def _ways(text: str) -> list[tuple[str, dict[str, Any]]]:
    variable = {"name": "surface", "kind": "text", "default": text}
    return [
        ("/v1/generations", {"prompt": text}),
        ("/v1/generations", {"prompt": f"a photo of {text}, {IDENTIFIER}"}),
        ("/v1/generations", {"prompt": text, "model": IDENTIFIER}),
        ("/v1/generations", {"prompt": IDENTIFIER, "negative_prompt": text}),
        ("/v1/generations", {"prompt": "an apple", "model": text}),
        ("/v1/images/generations", {"prompt": "an apple", "model": text}),
        ("/v1/templates", {"name": "hostile", "background": text}),
        ("/v1/templates", {"name": "hostile", "background": "{surface}", "variables": [variable]}),
        ("/v1/batches", {"categories": [text], "templates": ["hostile"]}),
        ("/v1/trainings", {"category": text}),
    ]


def _beyond(two: Two, what: str, status: int) -> list[str]:
    """Whether anything of acme's leads to the other team's fine-tune, or the server failed."""
    records = two.platform.space.records
    led = [
        f"{what} led to the other team's fine-tune"
        for each in records.find(Generation, namespace="acme")
        if each.fine_tune_id not in (None, two.own.id) or two.foreign.trained_phrase in each.resolved_prompt
    ]
    return led + ([f"{what}: {status}"] if status >= 500 else [])


def _captions(two: Two, texts: list[str]) -> list[str]:
    """A photo with each text as its caption, the accepted ones trained; what of the others reached the trainer."""
    platform = two.platform
    platform.call("POST", "/v1/categories", json={"path": "apple/gala", "class_noun": "apple"}, status=201)
    (gala,) = platform.space.records.find(Category, namespace="acme", path="apple/gala")
    failures: list[str] = []
    for photo, text in zip(platform.photos(len(texts), start=100), texts, strict=True):
        row = ("files", ("metadata.jsonl", json.dumps({"file_name": photo[1][0], "text": text}).encode()))
        reply = platform.client.post(
            f"/v1/categories/{gala.identifier}/references", files=[photo, row], headers=platform.key("train")
        )
        failures += [] if reply.status_code in (201, 422) else [f"{text!r}: {reply.status_code}"]
    platform.call("POST", f"/v1/categories/{gala.identifier}/references/freeze", status=201)
    body = {"category": gala.identifier, "config": {"steps": 1}}
    training = platform.call("POST", "/v1/trainings", json=body, status=202)
    platform.work()
    ended = platform.call("GET", training["urls"]["get"])
    trained = [each.caption for each in platform.space.trainer.tasks[-1].examples]  # type: ignore[attr-defined]
    failures += [caption for caption in trained if "<" in caption or "\0" in caption]
    return failures + (
        [] if ended["status"] == "succeeded" else [f"the training {ended['status']}: {ended['message']}"]
    )
