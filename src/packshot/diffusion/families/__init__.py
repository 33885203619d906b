"""The table of families: which pipelines belong to which, and how to load one. Loads no framework by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from packshot.diffusion.protocols import Family


@dataclass(frozen=True, kw_only=True)
class FamilyEntry:
    """One family. ``components`` are folders with the class that must be in them; those with weights come first."""

    name: str
    pipelines: tuple[str, ...]
    weights: dict[str, str]
    others: dict[str, str]
    load: "Callable[[Path, torch.device], Family]"

    @property
    def components(self) -> dict[str, str]:
        """Every component folder a base of this family must have, with its class."""
        return self.weights | self.others


def _load_stable_diffusion(folder: Path, device: "torch.device") -> "Family":
    from packshot.diffusion.families.stable_diffusion import StableDiffusion

    return StableDiffusion.load(folder, device)


FAMILIES: dict[str, FamilyEntry] = {
    entry.name: entry
    for entry in (
        FamilyEntry(
            name="stable-diffusion",
            pipelines=("StableDiffusionPipeline",),
            weights={"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"},
            others={"tokenizer": "CLIPTokenizer", "scheduler": ""},
            load=_load_stable_diffusion,
        ),
    )
}


def family_of_pipeline(pipeline: str) -> FamilyEntry | None:
    """The family that the class named in ``model_index.json`` belongs to, or None."""
    return next((entry for entry in FAMILIES.values() if pipeline in entry.pipelines), None)
