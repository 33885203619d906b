"""Benchmark 14: two subjects in one picture, against the peer that adds both adapters to the base and writes both tokens.

Two categories of the sample catalog are fine-tuned with the defaults, once, in a workspace that is kept: the folder
``PACKSHOT_COMPOSITION_HOME``, or ``packshot-composition`` among the temporary files. In every scene both contestants
paint the same prompt with the same seeds. The judge looks at the middle square of each half and says which category of
the sample catalog it is nearest to. A picture of the peer, which was told of no places, counts the way round that suits
it better. "Leaks" are halves that are nearest to the other subject.
"""

import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from benchmarks.harness import Row, Setting
from benchmarks.sample_catalog import taken_in, trained
from packshot.bootstrap import Workspace, create_workspace
from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.loaded_base import LoadedBase, TokenOfBase
from packshot.diffusion.methods import METHODS
from packshot.diffusion.protocols import TOKEN_PREFIX, Family
from packshot.diffusion.sampling import sample
from packshot.diffusion.weights import read_weights
from packshot.domain.catalog import Category
from packshot.domain.composition import Box, layout
from packshot.domain.evaluation import SCENES, Embedding, centroid, nearest
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import EMBEDDED_BASE, BaseModelRef, FineTune
from packshot.domain.presets import parse_config
from packshot.imaging.sheets import Row as SheetRow
from packshot.imaging.sheets import comparison_sheet
from packshot.ports import LoadedFineTune, LoadedSubject, Sample
from packshot.services.artifacts import load_fine_tune
from packshot.services.evaluation import embedded_references
from packshot.services.models import register_base
from packshot.settings import Settings

SUBJECTS = ("produce/apple/honeycrisp", "produce/pear/conference")
HOME = Path(os.environ.get("PACKSHOT_COMPOSITION_HOME", Path(tempfile.gettempdir()) / "packshot-composition"))
SHEET = Path(__file__).parents[1] / "docs" / "images" / "composition.png"
SEED = 500


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A workspace with both fine-tunes, and what tells the sample catalog's categories apart."""

    space: Workspace
    base: BaseModelRef
    fine_tunes: tuple[LoadedFineTune, ...]
    centroids: Mapping[str, Embedding]


def measure(setting: Setting) -> list[Row]:
    """Right subjects and leaks of both contestants, and how often each fine-tune is recognised in a picture of its own."""
    torch.set_num_threads(setting.threads)
    scenes, each = SCENES, 1 if setting.quick else 8
    with bench() as found:
        ours = [picture for number in range(len(scenes)) for picture in composed(found, scenes[number], number, each)]
        peer = [picture for number in range(len(scenes)) for picture in added(found, scenes[number], number, each)]
        alone = [right(found, path, solo(found, subject, scenes, each)) for subject, path in enumerate(SUBJECTS)]
        rows = [
            Row(label=f"{path} alone, of a whole picture", value=share, unit="")
            for path, share in zip(SUBJECTS, alone, strict=True)
        ]
        rows += figures(looks(found, ours), looks(found, peer))
        SHEET.write_bytes(sheet(scenes, ours[::each], peer[::each]))
    return rows


@contextmanager
def bench() -> Iterator[Bench]:
    """The workspace, made and trained where it is not there yet."""
    with create_workspace(Settings(home=HOME)) as space:
        base = register_base(space.records, space.bases.describe(EMBEDDED_BASE))
        categories = taken_in(space, base)
        yield Bench(
            space=space,
            base=base,
            fine_tunes=tuple(
                load_fine_tune(space.records, space.blobs, _tuned(space, categories[path], base)) for path in SUBJECTS
            ),
            centroids={
                path: centroid(embedded_references(space.records, space.blobs, space.judge, category))
                for path, category in categories.items()
            },
        )


def _tuned(space: Workspace, category: Category, base: BaseModelRef) -> FineTune:
    known = space.records.find(FineTune, category_id=category.id, base_id=base.id)
    if known:
        return known[-1]
    config = parse_config({}, base_resolution=base.resolution, family=base.family)
    return trained(space, category, base, config)


def _settings(scene: int, num_images: int) -> SamplingSettings:
    return SamplingSettings(seed=SEED + 100 * scene, num_images=num_images)


def composed(found: Bench, scene: str, number: int, count: int, boxes: Sequence[Box] = ()) -> list[bytes]:
    """Our pictures of both subjects, the first one on the left."""
    subjects = [
        LoadedSubject(fine_tune=each, prompt=f"a photo of a {each.record.trained_phrase} {scene}", box=box)
        for each, box in zip(found.fine_tunes, layout(len(SUBJECTS), boxes), strict=True)
    ]
    whole = f"a photo of an apple next to a pear {scene}"
    return found.space.generator.generate(
        found.base, None, [whole], _settings(number, count), report=lambda _: None, subjects=subjects
    )


def added(found: Bench, scene: str, number: int, count: int) -> list[bytes]:
    """The peer's pictures: one prompt with both tokens, one denoiser with both adapters."""
    bases = found.space.bases
    assert isinstance(bases, DiffusersBaseModels)
    with bases.borrow(found.base) as base, _both(base, found.fine_tunes) as (apple, pear):
        prompt = f"a photo of a {apple} apple next to a {pear} pear {scene}"
        settings = _settings(number, count)
        samples = [Sample(prompt=prompt, seed=settings.seed + offset) for offset in range(count)]
        return sample(base, base.encode_prompts, lambda _: nullcontext(), samples, settings, lambda: None)


@contextmanager
def _both(base: Family, fine_tunes: Sequence[LoadedFineTune]) -> Iterator[Sequence[str]]:
    """The base with all adapters multiplied in and all tokens known; gives the tokens as a prompt spells them."""
    assert isinstance(base, LoadedBase)
    read = [read_weights(each.read()) for each in fine_tunes]
    rows = {name: torch.cat([tensors[TOKEN_PREFIX + name] for _, tensors in read]) for name in base.text_encoders}
    made = base.new_token("<both>", rows)
    assert isinstance(made, TokenOfBase)
    # Spelled one by one in the prompt, instead of one after the other as a token of several vectors is.
    apart = {encoder: replace(token, reading=("<both>", "<both>")) for encoder, token in made._tokens.items()}
    with ExitStack() as stack:
        stack.enter_context(TokenOfBase(apart).read())
        for header, tensors in read:
            stack.callback(METHODS[header.method].apply(base, header, tensors))
        yield ["<both>", "<both>_1"]


def solo(found: Bench, subject: int, scenes: Sequence[str], count: int) -> list[bytes]:
    """Pictures of one subject alone."""
    fine_tune = found.fine_tunes[subject]
    return [
        png
        for number, scene in enumerate(scenes)
        for png in found.space.generator.generate(
            found.base,
            fine_tune,
            [f"a photo of a {fine_tune.record.trained_phrase} {scene}"],
            _settings(number, count),
            report=lambda _: None,
        )
    ]


def right(found: Bench, path: str, pictures: Sequence[bytes]) -> float:
    """The share of ``pictures`` that are nearest to the category at ``path``."""
    embeddings = found.space.judge.embed(pictures, [None] * len(pictures))
    return sum(nearest(each, found.centroids) == path for each in embeddings) / len(pictures)


def looks(found: Bench, pictures: Sequence[bytes]) -> list[tuple[str, str]]:
    """What each picture shows in its left and in its right half."""
    halves = [_middle_square(picture, box) for picture in pictures for box in layout(2, ())]
    names = [nearest(each, found.centroids) for each in found.space.judge.embed(halves, [None] * len(halves))]
    return list(zip(names[::2], names[1::2], strict=True))


def _middle_square(picture: bytes, box: Box) -> bytes:
    image = Image.open(io.BytesIO(picture))
    left, top, right_, bottom = (
        round(edge * length) for edge, length in zip(box.edges, (*image.size, *image.size), strict=True)
    )
    edge = min(right_ - left, bottom - top)
    left, top = (left + right_ - edge) // 2, (top + bottom - edge) // 2
    out = io.BytesIO()
    image.crop((left, top, left + edge, top + edge)).save(out, "PNG")
    return out.getvalue()


def figures(ours: Sequence[tuple[str, str]], peer: Sequence[tuple[str, str]]) -> list[Row]:
    """Rows of both contestants."""
    turned = [max((each, (each[1], each[0])), key=_num_right) for each in peer]
    rows: list[Row] = []
    for place, (path, other) in enumerate((SUBJECTS, SUBJECTS[::-1])):
        for label, wanted in ((f"{path} in its half", path), (f"leaks into the half of {path}", other)):
            shares = [sum(each[place] == wanted for each in looked) / len(looked) for looked in (ours, turned)]
            rows.append(Row(label=label, value=shares[0], unit="", peer_value=shares[1]))
    both = [sum(_num_right(each) == 2 for each in looked) / len(looked) for looked in (ours, turned)]
    return [*rows, Row(label="both subjects right", value=both[0], unit="", peer_value=both[1])]


def _num_right(looked: tuple[str, str]) -> int:
    return sum(one == other for one, other in zip(looked, SUBJECTS, strict=True))


def sheet(scenes: Sequence[str], ours: Sequence[bytes], peer: Sequence[bytes]) -> bytes:
    """The first picture of every scene by both contestants."""
    rows = [SheetRow(label="each subject in its half", images=ours), SheetRow(label="both adapters added", images=peer)]
    return comparison_sheet(rows, column_labels=scenes, title="a honeycrisp apple next to a conference pear")
