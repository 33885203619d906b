"""Environment variables → typed settings. Every field is documented in docs/reference/settings.md."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from packshot.domain.catalog import DEFAULT_NAMESPACE, NAMESPACE_PATTERN
from packshot.domain.errors import InvalidInput


class Settings(BaseSettings):
    """What the environment decides; each field is the variable ``PACKSHOT_`` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PACKSHOT_", extra="ignore", frozen=True)

    home: Path = Field(
        default=Path(".packshot"), description="The workspace folder: database, blobs, checkpoints, caches."
    )
    namespace: str = Field(
        default=DEFAULT_NAMESPACE,
        pattern=NAMESPACE_PATTERN,
        description="The namespace of identifiers, and their first word.",
    )
    device: str = Field(default="auto", description="Where models run: auto, cpu, cuda, cuda:1, mps.")
    max_batch: int = Field(default=8, ge=1, le=256, description="How many pictures are sampled at once.")
    group_size: int = Field(default=16, ge=1, le=256, description="How many categories are trained together at most.")
    group_samples: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="How many pictures of categories that are trained together pass through the base at once.",
    )
    lease_s: float = Field(
        default=20.0, ge=1, le=3600, description="Seconds until a silent worker's job is free again."
    )
    judge_embedder: str = Field(default="embedded", description="Folder or hub id of the image embedder that judges.")
    judge_clip: str = Field(default="embedded", description="Folder or hub id of the CLIP model that judges adherence.")


def read_settings() -> Settings:
    """The settings that the environment gives.

    Raises:
        InvalidInput: a variable has a value out of its type or range.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        variable = f"PACKSHOT_{'_'.join(map(str, wrong['loc'])).upper()}"
        raise InvalidInput(f"{variable} is {wrong['input']!r}: {wrong['msg']}; change or unset it") from error
