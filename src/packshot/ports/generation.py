"""What makes pictures, with our bases or by other people's APIs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from packshot.domain.composition import Box
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef, FineTune, ForeignModel
from packshot.domain.providers import Provider
from packshot.ports.training import Progress


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
