"""``packshot evaluate``, ``promote``, ``rollback`` and ``show``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packshot.cli.catalog import Path_
from packshot.cli.output import Json, Out, backend, show, table, write_files

if TYPE_CHECKING:
    from packshot.domain.evaluation import Evaluation
    from packshot.domain.generation import Generation
    from packshot.domain.models import FineTune
    from packshot.domain.training import TrainingRun
    from packshot.services.models import Lineage

Versioned = Annotated[str, typer.Argument(metavar="PATH[@VERSION]", help="A fine-tune; the newest without @VERSION.")]
_SHOWN = 80  # characters of a header

Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(evaluate)
    app.command()(promote)
    app.command()(rollback)
    app.command("show")(show_lineage)


def evaluate(
    reference: Versioned,
    images_per_scene: Annotated[int, typer.Option(min=1, max=50, help="Pictures in each of the eight scenes.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the first picture in each scene.")] = 1000,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Measure a fine-tune against its bare base, on the same prompts and seeds."""
    with backend() as there:
        measured = there.evaluate(reference, images_per_scene, seed)
    evaluation, stem = measured.evaluation, f"{reference.split('@')[0].replace('/', '-')}-v{measured.version}"
    written = write_files(out, {f"{stem}-{name}": data for name, data in measured.files.items()})
    show(evaluation, as_json, lambda: "\n".join([scores_text(evaluation), *(str(path) for path in written)]))


def scores_text(evaluation: "Evaluation") -> str:
    """The scores of a fine-tune beside its bare base, and the verdict."""
    rows = [
        [name.replace("_", " "), f"{value:.3f}", f"{getattr(evaluation.base, name):.3f}"]
        for name, value in vars(evaluation.fine_tune).items()
    ]
    rows.append(["(real photos: fidelity)", f"{evaluation.real_fidelity:.3f}", ""])
    verdict = "; ".join([evaluation.verdict.outcome, *evaluation.verdict.reasons])
    return f"{table(['score', 'fine-tune', 'bare base'], rows)}\nverdict: {verdict}"


def promote(reference: Versioned, reason: Reason = "", as_json: Json = False) -> None:
    """Put a fine-tune into service: prompts with its identifier are answered by it from now on.

    Without --reason the gate must have passed it.
    """
    from packshot.services.models import split_version, version_among

    path, _ = split_version(reference)
    with backend() as there:
        fine_tune = version_among(there.category(path).fine_tunes, reference)
        event = there.promote(path, fine_tune, reason)
        show(event, as_json, lambda: f"{path} serves version {fine_tune.version}")


def rollback(path: Path_, reason: Reason = "", as_json: Json = False) -> None:
    """Put the version back into service that served before."""
    with backend() as there:
        event = there.roll_back(path, reason)
        version = next(each.version for each in there.category(path).fine_tunes if each.id == event.fine_tune_id)
        show(event, as_json, lambda: f"{path} serves version {version} again")


def show_lineage(
    reference: Annotated[str, typer.Argument(metavar="PATH[@VERSION]|IMAGE-ID")], as_json: Json = False
) -> None:
    """Where a picture or a fine-tune comes from, back to the reference photos."""
    with backend() as there:
        found = there.ancestry(reference)
    show(found.lineage, as_json, lambda: lineage_text(found.lineage, found.source, found.more))


def lineage_text(lineage: "Lineage", source: Mapping[str, Any] | None, compressed: Sequence[str] = ()) -> str:
    """Every ancestor, one line each."""
    lines: list[str] = []
    if lineage.image and lineage.generation:
        made = lineage.generation
        lines += [
            f"image       {lineage.image.id}  seed {_seed(lineage.image.seed)}  sha256 {lineage.image.sha256}",
            f"prompt      {made.prompt}",
            f"resolved    {made.resolved_prompt}",
            f"sampling    {_sampling(made)}",
            f"made        {made.created_at:%Y-%m-%d %H:%M:%S} UTC by code {made.code_revision}",
        ]
    if lineage.fine_tune and lineage.category:
        weights = lineage.fine_tune.artifact("weights.safetensors")
        lines += [
            f"category    {lineage.category.path}  ({lineage.category.identifier})",
            f"fine-tune   version {lineage.fine_tune.version}, {lineage.fine_tune.method}, {lineage.fine_tune.id}",
            f"weights     sha256 {weights.sha256}, {weights.num_bytes / 1e6:.2f} MB",
            f"trained as  {lineage.fine_tune.trained_phrase}",
            *_origin(lineage.fine_tune, lineage.run, source),
            *compressed,
            *(
                f"evaluation  {each.created_at:%Y-%m-%d %H:%M}  {each.verdict.outcome}  fidelity "
                f"{each.fine_tune.subject_fidelity:.3f} (bare base {each.base.subject_fidelity:.3f})"
                for each in lineage.evaluations
            ),
            *(f"alias       {each.created_at:%Y-%m-%d %H:%M}  {each.action}" for each in lineage.alias_events),
        ]
    if lineage.generation and lineage.generation.foreign_model:
        lines.append(f"model       {lineage.generation.foreign_model.reference}, by another's image API")
    if lineage.base:
        lines.append(f"base        {lineage.base.source}  {lineage.base.family}  digest {lineage.base.digest}")
    for number, ancestors in enumerate(lineage.subjects):
        assert lineage.generation
        placed = lineage.generation.subjects[number]
        lines += [f"subject {number + 1}   in the box {placed.box}, by the prompt {placed.resolved_prompt!r}"]
        lines += [f"  {line}" for line in lineage_text(ancestors, None).splitlines()]
    if lineage.reference_set:
        held_out = lineage.reference_set.held_out_ids
        lines.append(f"references  set {lineage.reference_set.version}, digest {lineage.reference_set.digest}")
        lines += [
            f"  {photo.file_name:<24} {photo.original[:16]}  {photo.rights.license or 'no licence noted'}"
            f"{'  (held out)' if photo.id in held_out else ''}"
            for photo in lineage.references
        ]
    return "\n".join(lines)


def _seed(seed: int | None) -> str:
    return "untold" if seed is None else str(seed)


def _sampling(made: "Generation") -> str:
    if made.foreign_model is None:
        return f"{made.sampling.inference_steps} steps, guidance {made.sampling.guidance_scale:g}"
    told = ", ".join(made.foreign_model.settings)
    return f"the model was told {told}" if told else "the model was told no settings"


def _origin(fine_tune: "FineTune", run: "TrainingRun | None", source: Mapping[str, Any] | None) -> list[str]:
    if fine_tune.imported:
        made = f"{fine_tune.created_at:%Y-%m-%d %H:%M:%S} UTC by code {fine_tune.code_revision}"
        lines = [f"imported    {made}, in the {fine_tune.imported.layout} layout"]
        files = fine_tune.imported.files
        for file, kept in zip(files, source["files"] if source else [{"headers": {}} for _ in files], strict=True):
            lines.append(f"  {file.name}  sha256 {file.sha256}, {file.num_bytes / 1e6:.2f} MB")
            lines += [
                f"    {key:<28} {value if len(value) <= _SHOWN else value[:_SHOWN] + '…'}"
                for key, value in sorted(kept["headers"].items())
            ]
        return lines
    if run is None:
        return []
    config = ", ".join(f"{key}={value}" for key, value in run.config.to_dict().items())
    return [
        f"run         {run.id} by code {_codes(run.code_revision, fine_tune.code_revision)}",
        f"config      {config}",
    ]


def _codes(planned: str, finished: str) -> str:
    return planned if planned == finished else f"{planned}, finished by other code, {finished}"
