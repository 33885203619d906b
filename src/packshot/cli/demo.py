"""``packshot demo``: the whole way on one category."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.models import scores_text
from packshot.cli.output import Json, Out, interruptible, progress_shown, say, show, workspace, write_files
from packshot.cli.training import read_values, watching
from packshot.domain.errors import InvalidInput
from packshot.domain.models import EMBEDDED_BASE

if TYPE_CHECKING:
    from packshot.services.demo import DemoResult


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(demo)


def demo(
    photos: Annotated[Path | None, typer.Option(help="A folder of photos; the bundled sample without it.")] = None,
    class_noun: Annotated[str | None, typer.Option(help="What the photos show, for example apple.")] = None,
    category: Annotated[
        str, typer.Option(help="Which category of the bundled sample catalog.")
    ] = "produce/apple/honeycrisp",
    base: Annotated[str, typer.Option(help="embedded, a diffusers folder, or a hub id.")] = EMBEDDED_BASE,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration value; repeatable.")
    ] = None,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Photos in, pictures of that very product out: train, evaluate, promote, and make a sheet to look at.

    Folders beside --photos are taken as rival varieties of the same class; those that cannot be used are skipped. A
    fine-tune that the gate rejects is not promoted.
    """
    from packshot.bootstrap import code_revision
    from packshot.domain.presets import parse_config
    from packshot.embedded import CATALOG_FOLDER
    from packshot.services.demo import DemoModels, photo_categories, run_demo, sample_categories
    from packshot.services.evaluation import SHEET, Suite
    from packshot.services.models import register_base

    if (photos is None) != (class_noun is None):
        raise InvalidInput("--photos and --class-noun belong together: the noun says what the photos show")
    with workspace(create=True) as space:
        categories = (
            photo_categories(photos, class_noun)
            if photos and class_noun
            else sorted(sample_categories(CATALOG_FOLDER), key=lambda each: each.path != category)
        )
        if not photos and category not in [each.path for each in categories]:
            known = ", ".join(each.path for each in categories)
            raise InvalidInput(f"the sample catalog has no category {category!r}; it has {known}")
        described = space.bases.describe(base)
        values = read_values(None, settings or [])
        config = parse_config(values, base_resolution=described.resolution, family=described.family)
        base_ref = register_base(space.records, described)
        models = DemoModels(
            records=space.records,
            blobs=space.blobs,
            generator=space.generator,
            judge=space.judge,
            base=base_ref,
            handlers=space.handlers,
            tidy=space.tidy,
            lease=space.lease,
            code_revision=code_revision(),
            namespace=space.settings.namespace,
        )
        say(f"{categories[0].path}: {config.method}, {config.steps} steps on {base_ref.source}")
        with progress_shown() as report, interruptible() as stop:
            result = run_demo(
                models,
                categories,
                config,
                Suite(images_per_scene=5 if photos else 2),
                report=report,
                watch=watching(),
                skip=lambda rival, error: say(f"{rival.folder} is skipped: {error}"),
                stop=stop,
            )
        drawn = next(each for each in result.evaluation.artifacts if each.name == SHEET)
        name = f"{result.category.identifier}-v{result.fine_tune.version}.png"
        (sheet,) = write_files(out, {name: space.blobs.get(drawn.sha256)})
        show({**vars(result), "sheet": str(sheet)}, as_json, lambda: f"{_result_text(result)}\nsheet: {sheet}")


def _result_text(result: "DemoResult") -> str:
    version = f"{result.category.path}@{result.fine_tune.version}"
    attempt = f'try: packshot generate "{result.category.identifier} on a marble counter, warm light" -n 4'
    if result.promoted:
        return f"{scores_text(result.evaluation)}\n{attempt}"
    return (
        f"{scores_text(result.evaluation)}\nnot promoted, since the gate rejected it; to do so all the same: "
        f"packshot promote {version} --reason TEXT\n{attempt} --version {version}"
    )
