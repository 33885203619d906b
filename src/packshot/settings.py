"""Environment variables → typed settings. Every field is documented in docs/reference/settings.md."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from packshot.domain.catalog import DEFAULT_NAMESPACE, NAMESPACE_PATTERN
from packshot.domain.errors import InvalidInput
from packshot.domain.training_choices import MixedPrecision


class Settings(BaseSettings):
    """What the environment decides; each field is the variable ``PACKSHOT_`` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PACKSHOT_", extra="ignore", frozen=True)

    home: Path = Field(
        default=Path(".packshot"), description="The workspace folder: database, blobs, checkpoints, caches."
    )
    database: str = Field(
        default="",
        repr=False,
        description="Where the records are: postgresql://user@host/name; empty, an SQLite file in the workspace folder.",
    )
    server: str = Field(
        default="",
        description="The address of a server that commands go to instead of the workspace, as with --server.",
    )
    api_key: str = Field(default="", repr=False, description="The API key for that server.")
    namespace: str = Field(
        default=DEFAULT_NAMESPACE,
        pattern=NAMESPACE_PATTERN,
        description="The namespace of identifiers, and their first word.",
    )
    device: str = Field(default="auto", description="Where models run: auto, cpu, cuda, cuda:1, mps.")
    mixed_precision: MixedPrecision = Field(
        default=MixedPrecision.NO,
        description="The floats that bases make pictures with: no (32 bits), bf16 or fp16 for half the memory, or auto: bf16 where the device multiplies such floats itself.",
    )
    max_batch: int = Field(default=8, ge=1, le=256, description="How many pictures are sampled at once.")
    picture_jobs: int = Field(
        default=8, ge=1, le=256, description="How many jobs a worker makes pictures for at once, mixed in one batch."
    )
    max_queue: int = Field(
        default=4096, ge=1, le=1_000_000, description="How many pictures wait for the engine before it lets no more in."
    )
    adapter_ranks: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="How many ranks of adapters stand beside the base at once: 256 = 16 adapters of rank 16.",
    )
    adapter_cache_mib: int = Field(
        default=1024, ge=0, le=1_000_000, description="MiB of main memory for adapters that were read before."
    )
    prompt_cache_mib: int = Field(default=128, ge=0, le=1_000_000, description="MiB for prompts that were read before.")
    max_replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many full fine-tunes are in memory at once, each a denoiser of its own.",
    )
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
    requests_per_minute: int = Field(
        default=1200, ge=1, le=1_000_000, description="How many requests a key may make in a minute."
    )
    max_unfinished_jobs: int = Field(
        default=1000, ge=1, le=10_000_000, description="How many queued and running jobs a namespace may have."
    )
    price_per_hour: float = Field(
        default=0.0, ge=0, description="What an hour of a worker's time costs, in your currency, for usage reports."
    )
    webhook_networks: str = Field(
        default="",
        description="Networks beside the public internet that webhooks and URLs of photos may lead to, as 10.1.0.0/16,127.0.0.1/32.",
    )
    c2pa_key: Path | None = Field(
        default=None, description="The private key that signs pictures (C2PA), a PEM file; unset, they are not signed."
    )
    c2pa_certificates: Path | None = Field(
        default=None, description="The certificate chain of that key, a PEM file with the signer's own first."
    )
    c2pa_trust: Path | None = Field(
        default=None, description="Root certificates that `packshot verify` trusts, a PEM file."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What server and workers log: debug, info, warning or error, and what is worse."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How they log: text, or one JSON object per line."
    )
    judge_embedder: str = Field(default="embedded", description="Folder or hub id of the image embedder that judges.")
    judge_clip: str = Field(default="embedded", description="Folder or hub id of the CLIP model that judges adherence.")

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value


def parse_networks(text: str) -> list[IPv4Network | IPv6Network]:
    """The networks in a comma-separated list. Raises ValueError."""
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


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
