"""What the services need from the outside, on one page. Implementations are chosen in ``bootstrap``.

Pictures cross these borders as encoded bytes (PNG where we make them), so that no port depends on an image library.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from packshot.domain.access import ApiKey, AuditEntry, Quota, Reply
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.composition import Box
from packshot.domain.engine_work import EngineWork
from packshot.domain.evaluation import Embedding, Evaluation, EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import AliasEvent, BaseModelRef, ExportFormat, FineTune, ForeignModel, SourceFile
from packshot.domain.providers import Provider
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.step_choice import LookScores, StepChoice
from packshot.domain.templates import Template
from packshot.domain.training import Method, MixedPrecision, TrainingConfig, TrainingRun
from packshot.domain.training_cost import Trial
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, Webhook

Record = (
    Category
    | ReferenceImage
    | ReferenceSet
    | BaseModelRef
    | TrainingRun
    | FineTune
    | EvaluationRun
    | Evaluation
    | AliasEvent
    | Template
    | Generation
    | GeneratedImage
    | Batch
    | BatchItem
    | ItemFailure
    | Job
    | ApiKey
    | Reply
    | Usage
    | AuditEntry
    | Quota
    | Webhook
    | Delivery
    | EngineWork
)
R = TypeVar("R", bound=Record)
Fence = tuple[str, int]  # (job id, attempt)
Wanted = str | int | None | Sequence[str]  # the value of a field, or some of which it has one


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many records have the same ``key`` values, and the sums of some of their numbers."""

    key: tuple[str | None, ...]
    count: int
    sums: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Those records of which one of ``fields`` contains ``text``, in whatever case."""

    text: str
    fields: tuple[str, ...]


class Records(Protocol):
    """The database. Outside a transaction each call is one of its own."""

    def transaction(self, fence: Fence | None = None) -> AbstractContextManager[None]:
        """All or nothing. With a fence, raises StaleAttempt (and writes nothing) once another attempt took over."""
        ...

    def add(self, *records: Record) -> None:
        """Append records. Raises Conflict where an id or a unique key exists, NotFound where a parent does not."""
        ...

    def replace(self, record: Record) -> None:
        """Write a Category, ReferenceImage, Job, ApiKey, Webhook, Delivery or EngineWork anew; others never change.

        Raises NotFound.
        """
        ...

    def remove(self, record: ReferenceImage | ItemFailure) -> None:
        """Forget the failure of an item, or a reference image; raises Conflict where a frozen set holds that one."""
        ...

    def get(self, kind: type[R], id_: str) -> R:
        """The record with this id. Raises NotFound."""
        ...

    def find(
        self,
        kind: type[R],
        /,
        *,
        order: Sequence[str] = (),
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        since: datetime | None = None,
        search: Search | None = None,
        **equal: Wanted,
    ) -> list[R]:
        """The records whose fields equal the given values, or one of the values where those are a list.

        They come by the fields ``order``, then in order of creation, or the other way round ``newest_first``; ``after`` is the id of the one to go on behind, and
        raises NotFound where it is none of them. ``since`` leaves out what was created before. The ``namespace`` of a
        record without one is that of its category.
        """
        ...

    def tally(
        self,
        kind: type[R],
        by: Sequence[str],
        sums: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **equal: Wanted,
    ) -> list[Tally]:
        """Records counted and summed per value of the fields ``by``, sorted by them, None first.

        ``since`` leaves out what was created before, ``until`` what was created then or after.
        """
        ...

    def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        *,
        job_id: str | None = None,
        given_up: Callable[[Job], None] = lambda _: None,
    ) -> Job | None:
        """Take a claimable job (or just ``job_id``) for ``worker``; exactly one claimer wins.

        Deserted jobs come first, the oldest before the others. Then namespaces take turns (``domain.jobs.whose_turn``),
        and in its turn a namespace has the job of the highest priority, the oldest of these. Each job that failed since too many workers died on it is told to
        ``given_up``, in the same transaction.
        """
        ...


class Blobs(Protocol):
    """Content-addressed bytes: the name of a blob is its sha256."""

    def put(self, data: bytes) -> str:
        """Store ``data``; returns its sha256. Storing the same bytes twice is one blob."""
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises NotFound, or CorruptArtifact where they do not match their name."""
        ...

    def __contains__(self, sha256: str) -> bool:
        """Whether the blob exists."""
        ...

    def __iter__(self) -> Iterator[str]:
        """The names of all blobs."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """A reference photo as training sees it: PNG bytes, its caption, and the PNG mask of the product or None.

    The caption may name the product by its trained phrase; it never holds the public identifier.
    """

    image: bytes
    caption: str
    mask: bytes | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture to make on the way: the prompt as the model reads it, and the seed of its noise."""

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a training that chooses its own steps is judged on its way.

    ``score`` takes the number of steps, the pictures of ``samples`` before the first step, and those of now.
    ``real_fidelity`` is what real photos reach among themselves.
    """

    samples: tuple[Sample, ...]
    score: Callable[[int, Sequence[bytes], Sequence[bytes]], LookScores]
    real_fidelity: float


@dataclass(frozen=True, kw_only=True)
class ScoredTraining:
    """The looks at a training by which its step was chosen, and the choice. Its weights are those of that step."""

    looks: tuple[LookScores, ...]
    real_fidelity: float
    choice: StepChoice


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """All a trainer needs. ``workdir`` holds checkpoints and survives the process; ``cachedir`` is shared by runs.

    ``validation`` are pictures to make every ``config.validation_every_steps``; ``scoring`` is there with
    ``config.choose_steps`` and only then.
    """

    base: BaseModelRef
    examples: tuple[TrainingExample, ...]
    class_noun: str
    token: str
    trained_phrase: str
    config: TrainingConfig
    workdir: Path
    cachedir: Path
    validation: tuple[Sample, ...] = ()
    scoring: Scoring | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands. ``phase`` is for people; ``loss`` is None outside the training phase itself."""

    phase: str
    step: int
    num_steps: int
    loss: float | None = None
    instance_loss: float | None = None
    prior_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """What a training gives: files by name (``weights.safetensors`` always) and one metrics row per step.

    ``validation`` are the PNGs of the task's validation samples, by the number of steps behind them.
    """

    files: Mapping[str, bytes]
    metrics: tuple[Mapping[str, float], ...]
    validation: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict[int, tuple[bytes, ...]])
    scored: ScoredTraining | None = None


@dataclass(frozen=True, kw_only=True)
class GroupMember:
    """A training that is carried out together with others, and ends on its own.

    Whatever is raised within ``own()`` ends it alone and goes no further; ``finish`` takes what it gives. ``ended`` is
    true from then on.
    """

    task: TrainingTask
    report: Callable[[Progress], None]
    stop: Callable[[], bool]
    own: Callable[[], AbstractContextManager[None]]
    finish: Callable[[TrainedWeights], None]
    ended: Callable[[], bool]


class Trainer(Protocol):
    """Fine-tunes a base. Implemented with torch in ``diffusion``."""

    def train(
        self, task: TrainingTask, *, report: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> TrainedWeights:
        """Train, or go on from the newest complete checkpoint in ``task.workdir``.

        Raises Interrupted, with a checkpoint written, once ``stop()`` is true.
        """
        ...

    def try_out(self, base: BaseModelRef, config: TrainingConfig, class_noun: str) -> Trial:
        """Measure what a few passes take that a training with ``config`` would make; nothing is learned.

        Raises InvalidConfiguration or InvalidInput where the base cannot be trained so.
        """
        ...

    def train_together(self, members: Sequence[GroupMember]) -> None:
        """Train tasks of one base, whose configurations go together, until all have ended; each as ``train`` would.

        A member that fails, or whose ``stop()`` is true, ends alone. What is raised here is the fault of none.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedFineTune:
    """A fine-tune as a generator takes it: ``read`` gives the bytes of its weights, which have this ``sha256``.

    They are read, and their digest is checked, when they are taken into use; who holds them already does not ask again.
    ``read`` raises CorruptArtifact where they are not the ones that were published.
    """

    record: FineTune
    sha256: str
    read: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class LoadedSubject:
    """A subject of a composed picture: its fine-tune, the prompt that is about it alone, and where it stands."""

    fine_tune: LoadedFineTune
    prompt: str
    box: Box


class Generator(Protocol):
    """Makes pictures with a base, bare, with one fine-tune, or with one for each of several subjects."""

    def generate(
        self,
        base: BaseModelRef,
        fine_tune: LoadedFineTune | None,
        prompts: Sequence[str],
        sampling: SamplingSettings,
        *,
        report: Callable[[Progress], None],
        caller: str = "",
        layout: bytes | None = None,
        subjects: Sequence[LoadedSubject] = (),
    ) -> list[bytes]:
        """``sampling.num_images`` PNGs per prompt, prompts in order; image i of every prompt has seed + i.

        With ``subjects`` there is no fine-tune, and the one prompt is what the bare base reads where no subject stands.
        ``layout`` is the PNG that ``sampling.layout`` names; its middle is taken where it has another shape.
        Callers whose pictures are made at the same time take turns. ``report`` counts denoising steps; what it raises
        ends the call.

        Raises IncompatibleFineTune where base and fine-tune do not belong together, InvalidComposition where a
        subject's cannot stand beside others.
        """
        ...


class ForeignGenerator(Protocol):
    """Makes pictures with other people's image APIs."""

    def providers(self) -> list[Provider]:
        """Those that are configured. Raises InvalidInput where the configuration is wrong."""
        ...

    def generate(
        self,
        model: ForeignModel,
        prompt: str,
        sampling: SamplingSettings,
        *,
        request_id: str,
        report: Callable[[Progress], None],
    ) -> list[bytes]:
        """``sampling.num_images`` RGB PNGs without metadata. Where a seed is told, image i has seed + i.

        An API that knows idempotency keys makes no picture twice for one ``request_id``. ``report`` may raise to end
        it. Raises ProviderUnusable where the API does not answer as it should, ProviderRefused where it will not.
        """
        ...


class Exporter(Protocol):
    """Writes fine-tunes as files that other tools read."""

    def export(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, form: ExportFormat, title: str, out: Path
    ) -> list[Path]:
        """Write the files, whose names begin with ``title`` where the layout leaves that free; returns their paths.

        Raises InvalidInput where the layout has no place for the method.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CompressedWeights:
    """A smaller file of a full fine-tune. ``relative_error`` is the share of what was learned that it leaves out."""

    method: Method
    weights: bytes
    relative_error: float


class Compressor(Protocol):
    """Makes full fine-tunes small."""

    def compress(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, *, rank: int, delta: MixedPrecision
    ) -> CompressedWeights:
        """An adapter of at most ``rank``, or with a ``delta`` of bf16 or fp16 every difference in those floats.

        Raises InvalidInput where it is no full fine-tune.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A file to import, and the headers that it carries."""

    path: Path
    record: SourceFile
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ForeignFiles:
    """What was found to import. ``pipeline`` is its folder where it is one; ``base_digest`` the base it names, or ""."""

    files: tuple[ForeignFile, ...]
    pipeline: Path | None
    base_digest: str


@dataclass(frozen=True, kw_only=True)
class ImportedWeights:
    """Foreign files as a fine-tune's own file; see ``FineTune`` for the rest."""

    layout: ExportFormat
    method: Method
    token: str
    trained_phrase: str
    weights: bytes


class Importer(Protocol):
    """Reads fine-tunes that other tools wrote, and our own exports. Never loads a pickle."""

    def find(self, paths: Sequence[Path]) -> ForeignFiles:
        """The files at ``paths`` with their headers. Raises ImportRefused where they cannot be read safely."""
        ...

    def convert(
        self, base: BaseModelRef, found: ForeignFiles, *, class_noun: str, trigger: str, method: Method | None
    ) -> ImportedWeights:
        """What was found as a fine-tune of ``base``. An empty ``trigger`` and no ``method`` are taken from the files.

        Raises ImportRefused where a layout is not known or the trigger phrase is, IncompatibleFineTune where names or
        shapes do not fit the base.
        """
        ...


class BaseModels(Protocol):
    """Finds and examines base models."""

    def describe(self, source: str, revision: str = "") -> BaseModelRef:
        """``embedded``, a folder or a hub id as a new record, with digest, family and resolution.

        Raises BaseModelRefused where a component is missing, the family unknown, or weights are pickled,
        CorruptArtifact where the bundled base is damaged, InvalidInput for a revision that no hub keeps.
        """
        ...

    def prediction_type(self, base: BaseModelRef) -> str | None:
        """What it predicts, such as epsilon or v_prediction; None where its recorded files are not at hand."""
        ...


class Judge(Protocol):
    """Looks at pictures. ``digest`` names the very weights that judged."""

    @property
    def digest(self) -> str:
        """sha256 over the files of the models; finding them may raise JudgeUnusable, as may the methods."""
        ...

    def embed(self, images: Sequence[bytes], masks: Sequence[bytes | None]) -> list[Embedding]:
        """Unit vectors for what the pictures show; where a mask is given, of the product alone."""
        ...

    def adherence(self, images: Sequence[bytes], prompts: Sequence[str]) -> list[float]:
        """Cosine similarity of each picture with its prompt."""
        ...


class Executor(Protocol):
    """Runs queued jobs somewhere other than in this call."""

    def start(self, kind: JobKind, job_id: str) -> str:
        """See to it that a worker takes the job; returns a name for where it runs."""
        ...


class Poster(Protocol):
    """Sends messages to servers of other people."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST JSON and return the status of the reply; follows no redirect.

        Raises AddressRefused where the address must not be connected to, or does not answer.
        """
        ...


class Fetcher(Protocol):
    """Fetches files from servers of other people."""

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """What ``url`` gives, and of something larger its first ``max_bytes``; follows a few redirects.

        Raises AddressRefused where it, or what it redirects to, is no http or https URL, leads to an address that must
        not be connected to, or gives nothing in time.
        """
        ...
