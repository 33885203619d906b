"""Fault test 20: pickles under any name, keys that stand twice and huge headers, wherever files come in."""

import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from api import IDENTIFIER, Platform, platform_in
from fake_models import GREY, noisy_png
from fixtures_pipelines import Studio, save_pipeline

from faults.registry import Check, Setting, fault
from packshot.diffusion.importer import DiffusersImporter
from packshot.domain.errors import PackshotError
from packshot.domain.generation import SamplingSettings
from packshot.judging.transformers_judge import TransformersJudge

NAMES = ("a.ckpt", "a.bin", "a.pt", "a.pth", "a.pkl", "a.pickle", "a.safetensors", "a.json", "a.png", "a.zip", "a")
ONE = '"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
TWO = '"u":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}'


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


class _Watch:
    """Notes every class that a pickle asks for, from the first use of this module on."""

    events: ClassVar[list[str]] = []
    _installed = False

    @classmethod
    def begin(cls) -> None:
        if not cls._installed:
            sys.addaudithook(lambda event, what: cls.events.append(str(what)) if event == "pickle.find_class" else None)
            cls._installed = True
        cls.events.clear()


def safetensors(header: str) -> bytes:
    """A file of 16 bytes of numbers."""
    return struct.pack("<Q", len(header)) + header.encode() + bytes(16)


def _headers(*, quick: bool) -> dict[str, bytes]:
    blank = " " * ((17 if quick else 99) * 2**20)
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    return {
        "a tensor twice": safetensors(f"{{{ONE},{ONE},{TWO}}}"),
        "a tensor twice, other bytes": safetensors(f"{{{ONE},{TWO},{ONE.replace('[0,8]', '[8,16]')}}}"),
        "metadata twice": safetensors(f'{{"__metadata__":{{"a":"1"}},"__metadata__":{{}},{ONE},{TWO}}}'),
        "a key of the metadata twice": safetensors(f'{{"__metadata__":{{"a":"1","a":"2"}},{ONE},{TWO}}}'),
        "overlapping tensors": safetensors(f"{{{ONE},{TWO.replace('[8,16]', '[4,12]')}}}"),
        "a huge header": safetensors(f"{{{ONE},{TWO}{blank}}}"),
        "a claim of a huge header": struct.pack("<Q", 2**62) + b"{}",
        "a deep header": safetensors(deep),
        "no header": b"\xff" * 100,
    }


@fault(20, "hostile files", passes="refused; no unpickling")
def hostile_files(setting: Setting) -> list[Check]:
    """Each file to the importer, in place of the weights of a base and of a judge, and to the upload of photos."""
    trap = setting.workdir / "sprung"
    _Watch.begin()
    buffer = io.BytesIO()
    torch.save({"weight": _Trap(trap)}, buffer)
    traps = {"pickle": pickle.dumps(_Trap(trap)), "torch file": buffer.getvalue()}
    files = {(f"{what} as {name}", name): data for what, data in traps.items() for name in NAMES}
    files = dict(list(files.items())[:: 3 if setting.quick else 1])
    files |= {(what, "a.safetensors"): data for what, data in _headers(quick=setting.quick).items()}
    studio = Studio(save_pipeline(setting.workdir / "base"))
    importer = DiffusersImporter(studio.bases)
    outcomes: dict[str, list[str]] = {"import": [], "base": [], "judge": [], "upload": []}
    for platform in platform_in(setting.workdir / "platform"):
        platform.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
        for number, ((what, name), data) in enumerate(files.items()):
            folder = setting.workdir / str(number)
            folder.mkdir()
            (folder / name).write_bytes(data)
            outcomes["import"] += _accepted(what, lambda path=folder / name: importer.find([path]))
            outcomes["upload"] += _uploaded(platform, what, name, data)
            if name != "a.json":
                outcomes["base"] += _accepted(what, lambda file=folder / name: _load_base(studio, file))
                outcomes["judge"] += _accepted(what, lambda file=folder / name: _judge(file))
            shutil.rmtree(folder)
    checks = [
        Check(label=f"refused: {way}", cases=len(files), passed=len(files) - len(failures), failures=failures)
        for way, failures in outcomes.items()
    ]
    sprung = [f"asked for {event}" for event in _Watch.events] + (["the trap was sprung"] if trap.exists() else [])
    return [
        *checks,
        Check(label="nothing unpickled", cases=len(files), passed=0 if sprung else len(files), failures=sprung),
    ]


def _accepted(what: str, act: Callable[[], Any]) -> list[str]:
    """Nothing where it is refused as it should be."""
    try:
        act()
    except PackshotError:
        return []
    except Exception as error:  # noqa: BLE001 whatever else it raises is a finding
        return [f"{what}: {type(error).__name__}: {error}"]
    return [f"{what}: accepted"]


def _load_base(studio: Studio, file: Path) -> None:
    """A base whose weights are this file, under its name and in the weights' place."""
    base = Path(shutil.copytree(studio.folder, file.parent / "base"))
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    if file.suffix == ".safetensors":
        shutil.copy(file, weights)
    else:
        weights.unlink()
        shutil.copy(file, weights.with_name(f"diffusion_pytorch_model{file.suffix}"))
    other = Studio(base)
    sampling = SamplingSettings(inference_steps=1, num_images=1)
    other.generator.generate(other.base, None, ["an apple"], sampling, report=lambda _: None)


def _judge(file: Path) -> None:
    folder = file.parent / "judge"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    shutil.copy(file, folder / f"model{file.suffix or '.bin'}")
    TransformersJudge(str(folder), str(folder), device="cpu").embed([noisy_png(GREY, 0)], [None])


def _uploaded(platform: Platform, what: str, name: str, data: bytes) -> list[str]:
    """Alone, and inside an archive. Files that are no photos by name are passed over, which takes nothing in."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(name, data)
    failures: list[str] = []
    for files in ([("files", (name, data))], [("files", ("all.zip", archive.getvalue()))]):
        reply = platform.client.post(
            f"/v1/categories/{IDENTIFIER}/references", files=files, headers=platform.key("train")
        )
        taken = reply.status_code == 201 and any(each["refusal"] is None for each in reply.json())
        if taken or reply.status_code >= 500:
            failures.append(f"{what}: {reply.status_code} {reply.text[:200]}")
    return failures
