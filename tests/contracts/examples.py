"""One record of every kind, each the child of the others, with every field away from its default."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from packshot.domain.access import ApiKey, AuditAction, AuditEntry, Quota, Reply, Scope
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.composition import Box, PlacedSubject
from packshot.domain.engine_work import FILL_BOUNDS, STEP_BOUNDS_S, EngineTotals, EngineWork, nothing_yet
from packshot.domain.errors import RefusalReason
from packshot.domain.evaluation import Evaluation, EvaluationRun, Outcome, Scores, Verdict
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.models import (
    AliasAction,
    AliasEvent,
    Artifact,
    BaseModelRef,
    ExportFormat,
    FineTune,
    ForeignModel,
    Import,
    SourceFile,
)
from packshot.domain.references import ReferenceImage, ReferenceSet, Rights
from packshot.domain.templates import Scene, Template
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.domain.training_choices import HorizontalFlip, Method, Targets
from packshot.domain.usage import Usage
from packshot.domain.variables import Variable, VariableKind
from packshot.domain.webhooks import Delivery, DeliveryStatus, Webhook
from packshot.ports import Record

NOW = datetime(2026, 3, 1, 12, 30, 15, 123457, tzinfo=UTC)
ELSEWHERE = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=45)))


def scores(first: float) -> Scores:
    return Scores(
        subject_fidelity=first,
        prompt_adherence=0.1 + 0.2,
        diversity=1e-17,
        nearest_category_accuracy=1.0,
        nearest_reference_distance=0.0,
        prior_drift=-0.25,
        prior_leak=1 / 3,
    )


CATEGORY = Category(
    id="category-1",
    namespace="sks",
    path="produce/apple/honeycrisp",
    class_noun="apple",
    identifier="sks_honeycrisp_apple",
    created_at=NOW,
    retired_at=ELSEWHERE,
)
IMAGE = ReferenceImage(
    id="image-1",
    category_id=CATEGORY.id,
    file_name="Äpfel 'rot' \u202e.jpg",
    original="a" * 64,
    image="b" * 64,
    mask="c" * 64,
    width=640,
    height=480,
    caption="an apple on grass\n(second line)",
    rights=Rights(source="our studio", license="CC-BY-4.0"),
    refusal=RefusalReason.NEAR_DUPLICATE,
    explanation="looks like image-0",
    added_at=NOW,
)
PLAIN_IMAGE = ReferenceImage(
    id="image-2", category_id=CATEGORY.id, file_name="2.png", original="d" * 64, image=None, added_at=ELSEWHERE
)
SET = ReferenceSet(
    id="set-1",
    category_id=CATEGORY.id,
    version=3,
    digest="e" * 64,
    image_ids=(PLAIN_IMAGE.id, IMAGE.id),
    held_out_ids=(IMAGE.id,),
    frozen_at=NOW,
)
BASE = BaseModelRef(
    id="base-1",
    source="example/base",
    revision="abc123",
    digest="f" * 64,
    family="stable-diffusion",
    resolution=128,
    registered_at=NOW,
)
JOB = Job(
    id="job-1",
    kind=JobKind.TRAINING,
    subject_id="run-1",
    status=JobStatus.RUNNING,
    attempt=2,
    failures=1,
    worker="host:42",
    lease_expires_at=ELSEWHERE,
    progress=0.1,
    message="step 20 of 200",
    namespace="acme",
    priority=3,
    created_at=NOW,
    finished_at=NOW + timedelta(microseconds=1),
)
CONFIG = TrainingConfig(
    method=Method.LORA,
    steps=17,
    batch_size=3,
    learning_rate=1.5e-4,
    token_learning_rate=3e-3,
    weight_decay=0.03,
    max_gradient_norm=0.7,
    snr_gamma=0.0,
    rank=5,
    targets=Targets.ATTENTION,
    train_text_encoder=True,
    resolution=64,
    horizontal_flip=HorizontalFlip.OFF,
    caption_dropout=0.1,
    background_weight=0.2,
    prior_weight=0.5,
    num_class_images=9,
    class_captions=True,
    class_inference_steps=11,
    class_guidance_scale=2.5,
    checkpoint_every_steps=7,
    seed=2**32 - 1,
)
RUN = TrainingRun(
    id="run-1",
    category_id=CATEGORY.id,
    reference_set_id=SET.id,
    base_id=BASE.id,
    config=CONFIG,
    code_revision="0123abc",
    job_id=JOB.id,
    created_at=NOW,
)
FINE_TUNE = FineTune(
    id="fine-tune-1",
    category_id=CATEGORY.id,
    version=2,
    training_run_id=RUN.id,
    base_id=BASE.id,
    method=Method.LORA,
    token="<t>",
    trained_phrase="<t> apple",
    artifacts=(
        Artifact(name="weights.safetensors", sha256="1" * 64, num_bytes=5_000_000_000),
        Artifact(name="loss.png", sha256="2" * 64, num_bytes=0),
    ),
    code_revision="4567def",
    created_at=NOW,
)
IMPORTED = replace(
    FINE_TUNE,
    id="fine-tune-2",
    version=3,
    training_run_id=None,
    imported=Import(
        layout=ExportFormat.KOHYA,
        files=(SourceFile(name="Äpfel.safetensors", sha256="7" * 64, num_bytes=5_000_000_000),),
    ),
    token="",
)
COMPRESSED = replace(FINE_TUNE, id="fine-tune-3", version=4, training_run_id=None, compressed_from_id=FINE_TUNE.id)
EVENT = AliasEvent(
    id="event-1",
    category_id=CATEGORY.id,
    number=4,
    fine_tune_id=FINE_TUNE.id,
    action=AliasAction.ROLLBACK,
    reason="the stem is green",
    created_at=NOW,
)
EVALUATION = Evaluation(
    id="evaluation-1",
    fine_tune_id=FINE_TUNE.id,
    judge_digest="judge-3",
    seed=2**32 - 1,
    fine_tune=scores(0.8),
    base=scores(0.4),
    real_fidelity=0.9,
    real_reference_distance=0.05,
    rivals=("produce/apple/fuji", "produce/pear"),
    verdict=Verdict(outcome=Outcome.REVIEW, reasons=("diversity 0.100 is below 0.200", "dull")),
    artifacts=(Artifact(name="sheet.png", sha256="3" * 64, num_bytes=12),),
    created_at=NOW,
)
EVALUATION_RUN = EvaluationRun(
    id="evaluation-1",
    fine_tune_id=FINE_TUNE.id,
    images_per_scene=3,
    seed=2**32 - 1,
    job_id=JOB.id,
    created_at=NOW,
)
TEMPLATE = Template(
    id="template-1",
    namespace="acme",
    name="summer-table",
    version=3,
    scene=Scene(
        style="a studio photo",
        quantity="{count} of",
        packaging="in a {wrapping}",
        background="on 'grass'; DROP TABLE job",
        light="{light}",
        negative_prompt="blurred, {wrapping}",
        width=64,
        height=128,
        variables=(
            Variable(name="count", kind=VariableKind.INTEGER, minimum=-1, maximum=9, default=0),
            Variable(
                name="wrapping", kind=VariableKind.CHOICE, choices=("paper bag", "Kiste aus Öl"), default="paper bag"
            ),
            Variable(name="light", kind=VariableKind.TEXT, max_length=40),
        ),
    ),
    created_at=NOW,
)
GENERATION = Generation(
    id="generation-1",
    namespace="acme",
    prompt="sks_honeycrisp_apple on 'grass'; DROP TABLE job",
    resolved_prompt="<t> apple on grass",
    base_id=BASE.id,
    fine_tune_id=FINE_TUNE.id,
    sampling=SamplingSettings(
        seed=2**32 - 1,
        num_images=3,
        inference_steps=7,
        guidance_scale=3.5,
        negative_prompt="blurred",
        width=64,
        height=128,
    ),
    code_revision="0123abc",
    job_id=JOB.id,
    template_id=TEMPLATE.id,
    created_at=NOW,
)
BARE_GENERATION = replace(GENERATION, id="generation-2", fine_tune_id=None, job_id=None, template_id=None)
COMPOSED_GENERATION = replace(
    BARE_GENERATION,
    id="generation-4",
    subjects=(
        PlacedSubject(fine_tune_id=FINE_TUNE.id, resolved_prompt="<t> 'apple'", box=Box.of((0, 0.25, 1 / 3, 1))),
        PlacedSubject(fine_tune_id=FINE_TUNE.id, resolved_prompt="<t> apple", box=Box.of((0.5, 0, 1, 1))),
    ),
)
FOREIGN_GENERATION = replace(
    BARE_GENERATION,
    id="generation-3",
    base_id=None,
    foreign_model=ForeignModel(provider="openai", name="org/'model'", settings=("seed", "size"), price_per_image=0.125),
)
FOREIGN_IMAGE = GeneratedImage(
    id="generated-2", generation_id=FOREIGN_GENERATION.id, number=0, seed=None, sha256="7" * 64
)
GENERATED = GeneratedImage(id="generated-1", generation_id=GENERATION.id, number=2, seed=2**32 + 998, sha256="4" * 64)
BATCH = Batch(
    id="batch-1",
    namespace="acme",
    sampling=GENERATION.sampling,
    own_settings=("height", "width"),
    variables=(("count", 3), ("light", "warm 'Licht'")),
    code_revision="0123abc",
    job_id=JOB.id,
    created_at=NOW,
)
ITEM = BatchItem(
    id="item-1",
    batch_id=BATCH.id,
    number=2,
    category_id=CATEGORY.id,
    template_id=TEMPLATE.id,
    generation_id=GENERATION.id,
)
EARLY_ITEM = replace(ITEM, id="item-2", number=3, generation_id=None)
FAILURE = ItemFailure(
    id="failure-1",
    batch_id=BATCH.id,
    item_id=EARLY_ITEM.id,
    error="NothingServing",
    message="serves nothing; 'train'",
    created_at=NOW,
)
KEY = ApiKey(
    id="key-1",
    namespace="acme",
    name="the 'shop' server",
    scopes=(Scope.READ, Scope.TRAIN),
    sha256="5" * 64,
    created_at=NOW,
    revoked_at=ELSEWHERE,
)
REPLY = Reply(id="reply-1", namespace="acme", key="order 7", fingerprint="6" * 64, body='{"id": "ü"}', created_at=NOW)
USAGE = Usage(
    id="usage-1",
    namespace="acme",
    category_id=CATEGORY.id,
    job_id=JOB.id,
    kind=JobKind.TRAINING,
    status=JobStatus.FAILED,
    num_images=3,
    num_steps=17,
    seconds=12.5,
    fees=0.375,
    created_at=NOW,
)
AUDIT = AuditEntry(
    id="audit-1",
    namespace="acme",
    actor="key-1 (the 'shop' server)",
    action=AuditAction.PROMOTE,
    subject="produce/apple@2",
    reason="the stem\nis green",
    request_id="r-1",
    created_at=ELSEWHERE,
)
QUOTA = Quota(id="quota-1", namespace="acme", requests_per_minute=None, max_unfinished_jobs=7, created_at=NOW)
WEBHOOK = Webhook(
    id="webhook-1",
    namespace="acme",
    url="https://shop.example/packshot?team=a",
    secret="whsec_c2VjcmV0",
    created_at=NOW,
    disabled_at=ELSEWHERE,
)
DELIVERY = Delivery(
    id="delivery-1",
    webhook_id=WEBHOOK.id,
    job_id=JOB.id,
    event="job.failed",
    body='{"type": "job.failed"}',
    status=DeliveryStatus.FAILED,
    num_attempts=3,
    due_at=ELSEWHERE,
    last_error="it answered 500",
    created_at=NOW,
)
ENGINE_WORK = EngineWork(
    totals=EngineTotals(
        step_seconds=nothing_yet(STEP_BOUNDS_S).with_value(0.1 + 0.2, STEP_BOUNDS_S),
        batch_fill=nothing_yet(FILL_BOUNDS).with_value(1 / 3, FILL_BOUNDS),
        slot_hits=7,
        slot_misses=2,
    ),
    created_at=ELSEWHERE,
)

# Children before parents: an implementation must not depend on the order within one call.
EVERYTHING: tuple[Record, ...] = (
    ENGINE_WORK,
    DELIVERY,
    WEBHOOK,
    QUOTA,
    AUDIT,
    USAGE,
    REPLY,
    KEY,
    FAILURE,
    EARLY_ITEM,
    ITEM,
    BATCH,
    GENERATED,
    FOREIGN_IMAGE,
    BARE_GENERATION,
    FOREIGN_GENERATION,
    COMPOSED_GENERATION,
    GENERATION,
    TEMPLATE,
    EVALUATION,
    EVALUATION_RUN,
    EVENT,
    IMPORTED,
    FINE_TUNE,
    COMPRESSED,  # behind its parent, which is of the same kind
    RUN,
    JOB,
    BASE,
    SET,
    IMAGE,
    PLAIN_IMAGE,
    CATEGORY,
)


# Each points at one record that does not exist, and is in order otherwise.
ORPHANS: tuple[Record, ...] = (
    replace(IMAGE, id="image without category", category_id="nobody"),
    replace(SET, id="set without category", category_id="nobody"),
    replace(SET, id="set without image", version=9, image_ids=(IMAGE.id, "nobody")),
    replace(SET, id="set without held-out image", version=9, held_out_ids=("nobody",)),
    replace(RUN, id="run without category", category_id="nobody"),
    replace(RUN, id="run without set", reference_set_id="nobody"),
    replace(RUN, id="run without base", base_id="nobody"),
    replace(RUN, id="run without job", job_id="nobody"),
    replace(FINE_TUNE, id="fine-tune without category", category_id="nobody"),
    replace(FINE_TUNE, id="fine-tune without run", version=9, training_run_id="nobody"),
    replace(FINE_TUNE, id="fine-tune without base", version=9, base_id="nobody"),
    replace(COMPRESSED, id="fine-tune without the one it was made from", version=9, compressed_from_id="nobody"),
    replace(EVENT, id="event without category", category_id="nobody"),
    replace(EVENT, id="event without fine-tune", number=9, fine_tune_id="nobody"),
    replace(EVALUATION, id="evaluation without fine-tune", fine_tune_id="nobody"),
    replace(EVALUATION_RUN, id="evaluation run without fine-tune", fine_tune_id="nobody"),
    replace(EVALUATION_RUN, id="evaluation run without job", job_id="nobody"),
    replace(GENERATION, id="generation without base", base_id="nobody"),
    replace(GENERATION, id="generation without fine-tune", fine_tune_id="nobody"),
    replace(GENERATION, id="generation without job", job_id="nobody"),
    replace(GENERATION, id="generation without template", template_id="nobody"),
    replace(BATCH, id="batch without job", job_id="nobody"),
    replace(ITEM, id="item without batch", number=9, batch_id="nobody"),
    replace(ITEM, id="item without category", number=9, category_id="nobody"),
    replace(ITEM, id="item without template", number=9, template_id="nobody"),
    replace(ITEM, id="item without generation", number=9, generation_id="nobody"),
    replace(FAILURE, id="failure without batch", item_id=ITEM.id, batch_id="nobody"),
    replace(FAILURE, id="failure without item", item_id="nobody"),
    replace(GENERATED, id="image without generation", generation_id="nobody"),
    replace(USAGE, id="usage without category", category_id="nobody"),
    replace(USAGE, id="usage without job", job_id="nobody"),
    replace(DELIVERY, id="message without webhook", webhook_id="nobody"),
    replace(DELIVERY, id="message without job", job_id="nobody"),
)
