"""Record ↔ row for what is made: training runs, fine-tunes, alias events, evaluations, generations, images."""

import json
from dataclasses import asdict
from typing import Any

from packshot.domain.composition import Box, PlacedSubject
from packshot.domain.evaluation import Evaluation, EvaluationRun, Outcome, Scores, Verdict
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.models import AliasAction, AliasEvent, ExportFormat, FineTune, ForeignModel, Import, SourceFile
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.domain.training_choices import Method
from packshot.storage.rows.values import Row, artifacts_from_text, artifacts_to_text, text_to_time, time_to_text


def training_run_to_row(run: TrainingRun) -> Row:
    """The configuration becomes JSON."""
    config = json.dumps(run.config.to_dict(), sort_keys=True)
    return {**vars(run), "config": config, "created_at": time_to_text(run.created_at)}


def training_run_from_row(row: Row) -> TrainingRun:
    """The inverse of ``training_run_to_row``."""
    return TrainingRun(
        id=row["id"],
        category_id=row["category_id"],
        reference_set_id=row["reference_set_id"],
        base_id=row["base_id"],
        config=TrainingConfig.from_dict(json.loads(row["config"])),
        code_revision=row["code_revision"],
        job_id=row["job_id"],
        created_at=text_to_time(row["created_at"]),
    )


def fine_tune_to_row(fine_tune: FineTune) -> Row:
    """Artifacts and the source of an import become JSON."""
    return {
        **vars(fine_tune),
        "imported": json.dumps(asdict(fine_tune.imported)) if fine_tune.imported else None,
        "method": fine_tune.method.value,
        "artifacts": artifacts_to_text(fine_tune.artifacts),
        "created_at": time_to_text(fine_tune.created_at),
    }


def fine_tune_from_row(row: Row) -> FineTune:
    """The inverse of ``fine_tune_to_row``."""
    return FineTune(
        id=row["id"],
        category_id=row["category_id"],
        version=row["version"],
        training_run_id=row["training_run_id"],
        imported=_import_from_text(row["imported"]) if row["imported"] else None,
        compressed_from_id=row["compressed_from_id"],
        base_id=row["base_id"],
        method=Method(row["method"]),
        token=row["token"],
        trained_phrase=row["trained_phrase"],
        artifacts=artifacts_from_text(row["artifacts"]),
        code_revision=row["code_revision"],
        created_at=text_to_time(row["created_at"]),
    )


def _import_from_text(text: str) -> Import:
    values = json.loads(text)
    files = tuple(SourceFile(**file) for file in values["files"])
    return Import(layout=ExportFormat(values["layout"]), files=files)


def alias_event_to_row(event: AliasEvent) -> Row:
    """Field by field."""
    return {**vars(event), "action": event.action.value, "created_at": time_to_text(event.created_at)}


def alias_event_from_row(row: Row) -> AliasEvent:
    """The inverse of ``alias_event_to_row``."""
    return AliasEvent(
        id=row["id"],
        category_id=row["category_id"],
        number=row["number"],
        fine_tune_id=row["fine_tune_id"],
        action=AliasAction(row["action"]),
        reason=row["reason"],
        created_at=text_to_time(row["created_at"]),
    )


def evaluation_run_to_row(run: EvaluationRun) -> Row:
    """Field by field."""
    return {**vars(run), "created_at": time_to_text(run.created_at)}


def evaluation_run_from_row(row: Row) -> EvaluationRun:
    """The inverse of ``evaluation_run_to_row``."""
    return EvaluationRun(
        id=row["id"],
        fine_tune_id=row["fine_tune_id"],
        images_per_scene=row["images_per_scene"],
        seed=row["seed"],
        job_id=row["job_id"],
        created_at=text_to_time(row["created_at"]),
    )


def evaluation_to_row(evaluation: Evaluation) -> Row:
    """Everything measured goes into one JSON column, the verdict into two."""
    scores = {
        "fine_tune": asdict(evaluation.fine_tune),
        "base": asdict(evaluation.base),
        "real_fidelity": evaluation.real_fidelity,
        "real_reference_distance": evaluation.real_reference_distance,
    }
    return {
        "id": evaluation.id,
        "fine_tune_id": evaluation.fine_tune_id,
        "judge_digest": evaluation.judge_digest,
        "seed": evaluation.seed,
        "scores": json.dumps(scores),
        "rivals": json.dumps(evaluation.rivals),
        "outcome": evaluation.verdict.outcome.value,
        "reasons": json.dumps(evaluation.verdict.reasons),
        "artifacts": artifacts_to_text(evaluation.artifacts),
        "created_at": time_to_text(evaluation.created_at),
    }


def evaluation_from_row(row: Row) -> Evaluation:
    """The inverse of ``evaluation_to_row``."""
    scores = json.loads(row["scores"])
    return Evaluation(
        id=row["id"],
        fine_tune_id=row["fine_tune_id"],
        judge_digest=row["judge_digest"],
        seed=row["seed"],
        fine_tune=Scores(**scores["fine_tune"]),
        base=Scores(**scores["base"]),
        real_fidelity=scores["real_fidelity"],
        real_reference_distance=scores["real_reference_distance"],
        rivals=tuple(json.loads(row["rivals"])),
        verdict=Verdict(outcome=Outcome(row["outcome"]), reasons=tuple(json.loads(row["reasons"]))),
        artifacts=artifacts_from_text(row["artifacts"]),
        created_at=text_to_time(row["created_at"]),
    )


def generation_to_row(generation: Generation) -> Row:
    """Sampling settings, the model of others and subjects become JSON."""
    foreign = generation.foreign_model
    return {
        **vars(generation),
        "foreign_model": json.dumps(asdict(foreign), sort_keys=True) if foreign else None,
        "sampling": json.dumps(asdict(generation.sampling), sort_keys=True),
        "subjects": json.dumps([asdict(subject) for subject in generation.subjects], sort_keys=True),
        "created_at": time_to_text(generation.created_at),
    }


def generation_from_row(row: Row) -> Generation:
    """The inverse of ``generation_to_row``."""
    return Generation(
        id=row["id"],
        namespace=row["namespace"],
        prompt=row["prompt"],
        resolved_prompt=row["resolved_prompt"],
        base_id=row["base_id"],
        foreign_model=_foreign_from_text(row["foreign_model"]) if row["foreign_model"] else None,
        fine_tune_id=row["fine_tune_id"],
        sampling=SamplingSettings(**json.loads(row["sampling"])),
        code_revision=row["code_revision"],
        job_id=row["job_id"],
        template_id=row["template_id"],
        subjects=tuple(_subject(values) for values in json.loads(row["subjects"])),
        created_at=text_to_time(row["created_at"]),
    )


def _subject(values: dict[str, Any]) -> PlacedSubject:
    return PlacedSubject(**{**values, "box": Box(**values["box"])})


def _foreign_from_text(text: str) -> ForeignModel:
    values = json.loads(text)
    return ForeignModel(**{**values, "settings": tuple(values["settings"])})


def generated_image_to_row(image: GeneratedImage) -> Row:
    """Field by field."""
    return dict(vars(image))


def generated_image_from_row(row: Row) -> GeneratedImage:
    """The inverse of ``generated_image_to_row``."""
    return GeneratedImage(
        id=row["id"],
        generation_id=row["generation_id"],
        number=row["number"],
        seed=row["seed"],
        sha256=row["sha256"],
    )
