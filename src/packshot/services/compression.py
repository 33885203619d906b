"""Use case: a full fine-tune becomes a smaller version of the same category, and what that costs is told."""

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.evaluation import Evaluation
from packshot.domain.models import Artifact, BaseModelRef, FineTune
from packshot.domain.training_choices import MixedPrecision
from packshot.ports import Blobs, Compressor, Records
from packshot.services.artifacts import load_fine_tune
from packshot.services.catalog import new_id, now
from packshot.services.json_text import to_json
from packshot.services.models import next_version
from packshot.services.training import WEIGHTS

REPORT = "compression.json"


def compress_fine_tune(
    records: Records,
    blobs: Blobs,
    compressor: Compressor,
    fine_tune: FineTune,
    *,
    rank: int,
    delta: MixedPrecision,
    code_revision: str,
) -> FineTune:
    """Store ``fine_tune`` as an adapter of at most ``rank``, or as its difference from the base in ``delta`` floats.

    ``compression.json`` keeps sizes and the relative error of the weights.

    Raises:
        InvalidInput: it is no full fine-tune.
        CategoryRetired: its category is out of use.
        CorruptArtifact, BaseModelRefused: what it needs cannot be loaded.
    """
    check_in_use(records.get(Category, fine_tune.category_id))
    base = records.get(BaseModelRef, fine_tune.base_id)
    made = compressor.compress(base, load_fine_tune(records, blobs, fine_tune), rank=rank, delta=delta)
    report = {
        "storage": f"rank {rank}" if delta is MixedPrecision.NO else f"{delta} delta",
        "relative_error": made.relative_error,
        "num_bytes": len(made.weights),
        "num_bytes_before": fine_tune.artifact(WEIGHTS).num_bytes,
    }
    files = {REPORT: to_json(report).encode(), WEIGHTS: made.weights}
    artifacts = tuple(Artifact(name=name, sha256=blobs.put(data), num_bytes=len(data)) for name, data in files.items())
    with records.transaction():
        check_in_use(records.get(Category, fine_tune.category_id))
        smaller = FineTune(
            id=new_id("ft"),
            category_id=fine_tune.category_id,
            version=next_version(records, fine_tune.category_id),
            compressed_from_id=fine_tune.id,
            base_id=fine_tune.base_id,
            method=made.method,
            token=fine_tune.token,
            trained_phrase=fine_tune.trained_phrase,
            artifacts=artifacts,
            code_revision=code_revision,
            created_at=now(),
        )
        records.add(smaller)
    return smaller


def fidelity_loss(records: Records, fine_tune: FineTune) -> float | None:
    """How much subject fidelity a compressed fine-tune lost; None until both were evaluated by one judge on one seed."""
    assert fine_tune.compressed_from_id
    after, before = (
        {
            (each.judge_digest, each.seed): each.fine_tune.subject_fidelity
            for each in records.find(Evaluation, fine_tune_id=id_)
        }
        for id_ in (fine_tune.id, fine_tune.compressed_from_id)
    )
    shared = [key for key in after if key in before]
    return before[shared[-1]] - after[shared[-1]] if shared else None
