"""What finds base models, and what judges pictures."""

from collections.abc import Sequence
from typing import Protocol

from packshot.domain.evaluation import Embedding
from packshot.domain.models import BaseModelRef


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
