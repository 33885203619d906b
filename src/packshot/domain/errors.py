"""Every error that Packshot raises on purpose. A message says what, which value, and how to mend it.

PackshotError
├── InvalidInput                 the caller can mend it by asking for something else
│   ├── InvalidPath              a category path such as "Produce//apple"
│   ├── InvalidIdentifier        an identifier that breaks the naming rule
│   ├── InvalidConfiguration     a training configuration value or key
│   ├── CapabilityMissing        a model behind another's API cannot do what was asked
│   ├── IdempotencyKeyReused     the key came with another request before
│   ├── ImportRefused            a pickle, a damaged file, a layout that is not read, or a trigger phrase that is missing
│   ├── InvalidTemplate          a scene template whose definition breaks a rule
│   │   └── UnknownVariable      a text names a variable that is not declared; names near matches
│   ├── InvalidVariables         what a caller sets in a template
│   │   ├── MissingVariable      neither a default nor a value
│   │   ├── WrongVariable        of another type, out of bounds, no choice
│   │   └── UnusedOverride       no such variable; names near matches
│   ├── SchedulerRefused         an unknown scheduler, or one that does not go with what the base predicts
│   ├── UploadRefused            an unsafe file name, an archive that is no good, too many or too large files
│   ├── WorkspaceNeeded          a command that works in a workspace of this machine was sent to a server
│   ├── InvalidComposition       subjects that cannot stand in one picture: their boxes, number, bases or methods
│   └── InvalidPrompt            control characters, model tokens, two subjects where one is meant
│       ├── UnknownIdentifier    names near matches
│       └── AmbiguousIdentifier  names the candidates
├── ImageRefused                 a reference image; carries a typed reason
├── ReferenceSetRefused          too few or too many usable images
├── AccessDenied                 the caller may not do this
│   ├── KeyRefused               no API key, an unknown or a revoked one
│   ├── SignatureRefused         a webhook's message is not genuine, or too old
│   └── ScopeMissing             the key has not the scope that this needs
├── LimitReached                 too much at once; carries when to come again
│   ├── RateLimited              more requests in a minute than the key may make
│   ├── QueueFull                more pictures wait for the engine than it holds
│   └── QuotaExceeded            more unfinished jobs than the namespace may have
├── NotFound                     a category, version, image, run or base that does not exist
├── AddressRefused               a URL leads where the server must not connect, or gives nothing
├── Conflict                     it exists already, or somebody else has it
│   ├── CategoryExists
│   ├── CategoryRetired          out of use for good
│   ├── IdentifierTaken          also for look-alikes and retired identifiers
│   └── StaleAttempt             this job attempt has lost its lease
├── BaseModelRefused             not a loadable base: a component missing, a pickle, an unknown family
├── JudgeUnusable                not a loadable embedder or CLIP model
├── IncompatibleFineTune         an adapter that was trained on another base
├── CorruptArtifact              stored bytes do not match their digest
│   └── FineTuneQuarantined      those of a fine-tune, which is out of service now
├── GateNotPassed                the verdict of a fine-tune forbids what was asked
├── NothingServing               a category has no promoted fine-tune, or no earlier one to roll back to
├── CredentialsUnusable          the key, certificates or trusted roots of signed pictures are of no use
├── WorkspaceMissing             PACKSHOT_HOME holds no workspace
├── WorkspaceUnusable            the database or the blob folder does not answer as it should
├── ServerUnusable               a Packshot server cannot be reached, or does not answer as it should
├── SamplingFailed               a picture's numbers were not finite any more
├── ProviderUnusable             another's image API cannot be reached, or does not answer as it should
├── ProviderRefused              another's image API will not make the pictures, and says why
├── JobFailed                    a job ended in failure; carries its recorded cause
├── ProcessFailed                another process that shares a training failed; carries what it told
└── Interrupted                  stopped on request; what was done is kept and can be resumed
    └── ProcessLost              another process that shares a training has ended
"""

from enum import StrEnum


class PackshotError(Exception):
    """The root: catch this to catch everything that Packshot raises on purpose."""


class InvalidInput(PackshotError):
    """The caller can mend it by asking for something else."""


class InvalidPath(InvalidInput):
    """A category path that breaks the naming rule."""


class InvalidIdentifier(InvalidInput):
    """An identifier that breaks the naming rule."""


class InvalidConfiguration(InvalidInput):
    """An unknown configuration key, or a value out of its range."""


class CapabilityMissing(InvalidInput):
    """A model behind another's API has not what was asked for: an identifier, a setting, a size."""


class IdempotencyKeyReused(InvalidInput):
    """An idempotency key came with another request before."""


class ImportRefused(InvalidInput):
    """A file cannot become a fine-tune: a pickle, damaged, of a layout that is not read, or without a trigger phrase."""


class InvalidTemplate(InvalidInput):
    """A scene template whose definition breaks a rule."""


class UnknownVariable(InvalidTemplate):
    """A text of a template names a variable that is not declared."""


class InvalidVariables(InvalidInput):
    """What a caller sets in a template does not fit it."""


class MissingVariable(InvalidVariables):
    """A variable of a template has neither a default nor a value."""


class WrongVariable(InvalidVariables):
    """The value of a variable has another type, is out of its bounds, or is none of its choices."""


class UnusedOverride(InvalidVariables):
    """A value was given for a variable that no template has."""


class SchedulerRefused(InvalidInput):
    """No scheduler has this name, or it does not go with what the base predicts."""


class UploadRefused(InvalidInput):
    """An uploaded file has an unsafe name, is an archive that cannot be unpacked safely, or there is too much of it."""


class WorkspaceNeeded(InvalidInput):
    """A command that works in a workspace of this machine alone was asked for on a server."""


class InvalidComposition(InvalidInput):
    """Subjects cannot stand in one picture as asked for: boxes, too many, other bases, a method that cannot mix."""


class InvalidPrompt(InvalidInput):
    """A prompt that cannot be resolved as it stands."""


class UnknownIdentifier(InvalidPrompt):
    """No category answers to the identifier in the prompt."""


class AmbiguousIdentifier(InvalidPrompt):
    """Several categories could be meant by the identifier in the prompt."""


class RefusalReason(StrEnum):
    """Why a reference image is refused; ``withdrawn`` by a person after a set was frozen that holds it."""

    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"
    UNSUPPORTED_FORMAT = "unsupported-format"
    TRUNCATED = "truncated"
    ANIMATED = "animated"
    FILE_TOO_LARGE = "file-too-large"
    TOO_MANY_PIXELS = "too-many-pixels"
    TOO_SMALL = "too-small"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    BLURRED = "blurred"
    UNDEREXPOSED = "underexposed"
    OVEREXPOSED = "overexposed"
    WITHDRAWN = "withdrawn"


class ImageRefused(PackshotError):
    """A reference image cannot be used; ``reason`` is typed, the message explains."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReferenceSetRefused(PackshotError):
    """Too few or too many usable images to freeze a reference set."""


class AccessDenied(PackshotError):
    """The caller may not do this."""


class KeyRefused(AccessDenied):
    """No API key was given, or one that is unknown or revoked."""


class SignatureRefused(AccessDenied):
    """A webhook's message is not signed with the right secret, or too old."""


class ScopeMissing(AccessDenied):
    """The API key has not the scope that this needs."""


class LimitReached(PackshotError):
    """Too much at once; ``retry_after_s`` says when it may be enough less."""

    def __init__(self, message: str, retry_after_s: int = 30) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(LimitReached):
    """The API key made more requests in a minute than it may."""


class QueueFull(LimitReached):
    """As many pictures wait for the engine as it holds."""


class QuotaExceeded(LimitReached):
    """The namespace has as many unfinished jobs as it may."""


class NotFound(PackshotError):
    """What was asked for does not exist."""


class AddressRefused(PackshotError):
    """A URL leads to an address that the server must not connect to, or gives nothing."""


class Conflict(PackshotError):
    """It exists already, or somebody else has it."""


class CategoryExists(Conflict):
    """A category with this path exists."""


class CategoryRetired(Conflict):
    """The category is out of use: it takes no photos, trainings or promotions any more."""


class IdentifierTaken(Conflict):
    """The identifier, or one that looks like it, belongs to a category or is retired."""


class StaleAttempt(Conflict):
    """This attempt at a job has lost its lease; its writes are refused."""


class BaseModelRefused(PackshotError):
    """The reference does not lead to a base model that can be loaded safely."""


class JudgeUnusable(PackshotError):
    """The judge's embedder or CLIP model cannot be found or loaded safely."""


class IncompatibleFineTune(PackshotError):
    """A fine-tune was asked for on a base that it was not trained on."""


class CorruptArtifact(PackshotError):
    """Stored bytes do not match their digest."""


class FineTuneQuarantined(CorruptArtifact):
    """The stored weights of a fine-tune are damaged or gone; it was taken out of service."""


class GateNotPassed(PackshotError):
    """The verdict on a fine-tune forbids what was asked."""


class NothingServing(PackshotError):
    """A category has no promoted fine-tune, or no earlier one to roll back to."""


class CredentialsUnusable(PackshotError):
    """The key or the certificates that sign pictures, or the roots that are trusted, cannot be used."""


class WorkspaceMissing(PackshotError):
    """The workspace folder holds no workspace yet."""


class WorkspaceUnusable(PackshotError):
    """The database or the blob folder does not answer as it should."""


class ServerUnusable(PackshotError):
    """A Packshot server cannot be reached, or does not answer as it should."""


class SamplingFailed(PackshotError):
    """The numbers of a picture were not finite any more."""


class ProviderUnusable(PackshotError):
    """Another's image API cannot be reached, refuses the key, or does not answer as it should."""


class ProviderRefused(PackshotError):
    """Another's image API understood the request and will not answer it with pictures."""


class JobFailed(PackshotError):
    """A job ended in failure; the message is its recorded cause."""


class ProcessFailed(PackshotError):
    """Another process that shares a training failed; the message is what it told."""


class Interrupted(PackshotError):
    """Stopped on request; what was done is kept and can be resumed."""


class ProcessLost(Interrupted):
    """Another process that shares a training has ended; what was done is kept and can be resumed."""
