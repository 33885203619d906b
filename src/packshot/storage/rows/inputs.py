"""Record ↔ row for what training starts from: categories, reference photos and sets, base models, jobs."""

from packshot.domain.catalog import Category, fold_look_alikes
from packshot.domain.errors import RefusalReason
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.models import BaseModelRef
from packshot.domain.references import ReferenceImage, ReferenceSet, Rights
from packshot.storage.rows.values import Row, optional_time_to_text, text_to_optional_time, text_to_time, time_to_text


def category_to_row(category: Category) -> Row:
    """The fold of the identifier goes with it, so that the database itself forbids look-alikes."""
    return {
        **vars(category),
        "identifier_fold": fold_look_alikes(category.identifier),
        "created_at": time_to_text(category.created_at),
        "retired_at": optional_time_to_text(category.retired_at),
    }


def category_from_row(row: Row) -> Category:
    """The inverse of ``category_to_row``."""
    return Category(
        id=row["id"],
        namespace=row["namespace"],
        path=row["path"],
        class_noun=row["class_noun"],
        identifier=row["identifier"],
        created_at=text_to_time(row["created_at"]),
        retired_at=text_to_optional_time(row["retired_at"]),
    )


def reference_image_to_row(image: ReferenceImage) -> Row:
    """Rights become two columns."""
    plain = {key: value for key, value in vars(image).items() if key != "rights"}
    return {
        **plain,
        "source": image.rights.source,
        "license": image.rights.license,
        "refusal": None if image.refusal is None else image.refusal.value,
        "added_at": time_to_text(image.added_at),
    }


def reference_image_from_row(row: Row) -> ReferenceImage:
    """The inverse of ``reference_image_to_row``."""
    return ReferenceImage(
        id=row["id"],
        category_id=row["category_id"],
        file_name=row["file_name"],
        original=row["original"],
        image=row["image"],
        mask=row["mask"],
        width=row["width"],
        height=row["height"],
        caption=row["caption"],
        rights=Rights(source=row["source"], license=row["license"]),
        refusal=None if row["refusal"] is None else RefusalReason(row["refusal"]),
        explanation=row["explanation"],
        added_at=text_to_time(row["added_at"]),
    )


def reference_set_to_row(reference_set: ReferenceSet) -> Row:
    """Without its members, which have rows of their own."""
    return {
        "id": reference_set.id,
        "category_id": reference_set.category_id,
        "version": reference_set.version,
        "digest": reference_set.digest,
        "frozen_at": time_to_text(reference_set.frozen_at),
    }


def members_to_rows(reference_set: ReferenceSet) -> list[Row]:
    """One row per place in either list of a set."""
    return [
        {"reference_set_id": reference_set.id, "reference_image_id": id_, "held_out": held_out, "position": position}
        for held_out, ids in ((False, reference_set.image_ids), (True, reference_set.held_out_ids))
        for position, id_ in enumerate(ids)
    ]


def reference_set_from_row(row: Row) -> ReferenceSet:
    """The inverse of ``reference_set_to_row`` and ``members_to_rows``; ``row["members"]`` are in order."""
    members: list[Row] = row["members"]
    return ReferenceSet(
        id=row["id"],
        category_id=row["category_id"],
        version=row["version"],
        digest=row["digest"],
        image_ids=tuple(member["reference_image_id"] for member in members if not member["held_out"]),
        held_out_ids=tuple(member["reference_image_id"] for member in members if member["held_out"]),
        frozen_at=text_to_time(row["frozen_at"]),
    )


def base_model_to_row(base: BaseModelRef) -> Row:
    """Field by field."""
    return {**vars(base), "registered_at": time_to_text(base.registered_at)}


def base_model_from_row(row: Row) -> BaseModelRef:
    """The inverse of ``base_model_to_row``."""
    return BaseModelRef(
        id=row["id"],
        source=row["source"],
        revision=row["revision"],
        digest=row["digest"],
        family=row["family"],
        resolution=row["resolution"],
        registered_at=text_to_time(row["registered_at"]),
    )


def job_to_row(job: Job) -> Row:
    """Field by field."""
    return {
        **vars(job),
        "kind": job.kind.value,
        "status": job.status.value,
        "lease_expires_at": optional_time_to_text(job.lease_expires_at),
        "created_at": time_to_text(job.created_at),
        "finished_at": optional_time_to_text(job.finished_at),
    }


def job_from_row(row: Row) -> Job:
    """The inverse of ``job_to_row``."""
    return Job(
        id=row["id"],
        kind=JobKind(row["kind"]),
        subject_id=row["subject_id"],
        status=JobStatus(row["status"]),
        attempt=row["attempt"],
        failures=row["failures"],
        worker=row["worker"],
        lease_expires_at=text_to_optional_time(row["lease_expires_at"]),
        progress=row["progress"],
        message=row["message"],
        namespace=row["namespace"],
        priority=row["priority"],
        created_at=text_to_time(row["created_at"]),
        finished_at=text_to_optional_time(row["finished_at"]),
    )
