"""Trainers, generators and judges; torch is loaded when one of them is asked for."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from packshot.bootstrap.bases import diffusers_bases
from packshot.bootstrap.launching import launched
from packshot.ports import BaseModels, Compressor, Exporter, ForeignGenerator, Generator, Importer, Judge, Trainer
from packshot.settings import Settings

if TYPE_CHECKING:
    from packshot.diffusion.bases import DiffusersBaseModels
    from packshot.diffusion.engine import DiffusersEngine
    from packshot.diffusion.processes import Processes
    from packshot.diffusion.tallies import EngineTally

PROVIDERS = "providers.toml"


class Models:
    """What needs a model, or other people's: each loads on first use."""

    settings: Settings

    @property
    def home(self) -> Path:
        """The workspace folder, absolute."""
        return self.settings.home.absolute()

    @cached_property
    def bases(self) -> BaseModels:
        """Finds and examines base models."""
        return self._diffusers_bases

    @cached_property
    def trainer(self) -> Trainer:
        """Fine-tunes bases."""
        from packshot.diffusion.trainer import DiffusersTrainer

        return DiffusersTrainer(
            self._diffusers_bases,
            self._diffusers_generator,
            group_samples=self.settings.group_samples,
            processes=self.processes,
        )

    @cached_property
    def processes(self) -> "Processes":
        """Those that a launcher has started with this one, which share a training; they meet on first use."""
        if launched()[1] > 1:
            from packshot.diffusion.launched import Launched

            return Launched(self.settings.device)
        from packshot.diffusion.processes import Processes

        return Processes()

    @cached_property
    def generator(self) -> Generator:
        """Makes pictures."""
        return self._diffusers_generator

    @cached_property
    def foreign_generator(self) -> ForeignGenerator:
        """Has pictures made by other people's image APIs."""
        from packshot.providers.openai_images import OpenAiImages

        return OpenAiImages(self.home / PROVIDERS)

    @cached_property
    def exporter(self) -> Exporter:
        """Writes fine-tunes for other tools."""
        from packshot.diffusion.exporter import DiffusersExporter

        return DiffusersExporter(self._diffusers_bases)

    @cached_property
    def compressor(self) -> Compressor:
        """Makes full fine-tunes small."""
        from packshot.diffusion.compressor import DiffusersCompressor

        return DiffusersCompressor(self._diffusers_bases)

    @cached_property
    def importer(self) -> Importer:
        """Reads fine-tunes of other tools."""
        from packshot.diffusion.importer import DiffusersImporter

        return DiffusersImporter(self._diffusers_bases)

    @cached_property
    def judge(self) -> Judge:
        """Looks at pictures."""
        from packshot.embedded.bundle import CLIP, EMBEDDER, bundled_judge
        from packshot.judging.transformers_judge import TransformersJudge

        chosen = {EMBEDDER: self.settings.judge_embedder, CLIP: self.settings.judge_clip}
        embedder, clip = (bundled_judge(part) if source == "embedded" else source for part, source in chosen.items())
        return TransformersJudge(embedder, clip, device=self._device)

    @cached_property
    def engine(self) -> "DiffusersEngine":
        """Mixes the pictures of all callers in one batch."""
        from packshot.diffusion.engine import DiffusersEngine
        from packshot.diffusion.resident import EngineLimits

        settings = self.settings
        limits = EngineLimits(
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            adapter_ranks=settings.adapter_ranks,
            adapter_cache_mib=settings.adapter_cache_mib,
            prompt_cache_mib=settings.prompt_cache_mib,
            max_replicas=settings.max_replicas,
        )
        return DiffusersEngine(self._diffusers_bases, limits, self.engine_tally, precision=settings.mixed_precision)

    @cached_property
    def engine_tally(self) -> "EngineTally":
        """Counts what the engine of this process does."""
        from packshot.diffusion.tallies import EngineTally

        return EngineTally()

    @cached_property
    def _device(self) -> str:
        import torch

        chosen = self.settings.device
        return chosen if chosen != "auto" else "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def _diffusers_bases(self) -> "DiffusersBaseModels":
        return diffusers_bases(self.settings)

    @cached_property
    def _diffusers_generator(self):  # type: ignore[no-untyped-def]
        from packshot.diffusion.generator import DiffusersGenerator

        return DiffusersGenerator(self._diffusers_bases, self.engine)
