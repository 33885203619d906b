"""The table of families: which pipelines belong to which, and how to load one. Loads no framework by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packshot.domain.training_choices import MixedPrecision

if TYPE_CHECKING:
    import torch

    from packshot.diffusion.protocols import Family


@dataclass(frozen=True, kw_only=True)
class FamilyEntry:
    """One family. ``weights`` and ``others`` are component folders with the class that must be in them.

    ``denoiser`` is the folder of the network that predicts; ``sample_size`` is the edge of its native latents where
    its own configuration does not say it.
    """

    name: str
    pipelines: tuple[str, ...]
    denoiser: str
    weights: dict[str, str]
    others: dict[str, str]
    load: "Callable[[Path, torch.device, MixedPrecision], Family]"
    sample_size: int | None = None

    @property
    def components(self) -> dict[str, str]:
        """Every component folder a base of this family must have, with its class."""
        return self.weights | self.others


def _load_stable_diffusion(folder: Path, device: "torch.device", precision: MixedPrecision) -> "Family":
    from packshot.diffusion.families.stable_diffusion import StableDiffusion

    return StableDiffusion.load(folder, device, precision)


def _load_sdxl(folder: Path, device: "torch.device", precision: MixedPrecision) -> "Family":
    from packshot.diffusion.families.sdxl import StableDiffusionXL

    return StableDiffusionXL.load(folder, device, precision)


def _load_sd3(folder: Path, device: "torch.device", precision: MixedPrecision) -> "Family":
    from packshot.diffusion.families.sd3 import StableDiffusion3

    return StableDiffusion3.load(folder, device, precision)


def _load_flux(folder: Path, device: "torch.device", precision: MixedPrecision) -> "Family":
    from packshot.diffusion.families.flux import Flux

    return Flux.load(folder, device, precision)


FAMILIES: dict[str, FamilyEntry] = {
    entry.name: entry
    for entry in (
        FamilyEntry(
            name="stable-diffusion",
            pipelines=("StableDiffusionPipeline",),
            denoiser="unet",
            weights={"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"},
            others={"tokenizer": "CLIPTokenizer", "scheduler": ""},
            load=_load_stable_diffusion,
        ),
        FamilyEntry(
            name="stable-diffusion-xl",
            pipelines=("StableDiffusionXLPipeline",),
            denoiser="unet",
            weights={
                "unet": "UNet2DConditionModel",
                "vae": "AutoencoderKL",
                "text_encoder": "CLIPTextModel",
                "text_encoder_2": "CLIPTextModelWithProjection",
            },
            others={"tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer", "scheduler": ""},
            load=_load_sdxl,
        ),
        FamilyEntry(
            name="stable-diffusion-3",
            pipelines=("StableDiffusion3Pipeline",),
            denoiser="transformer",
            weights={
                "transformer": "SD3Transformer2DModel",
                "vae": "AutoencoderKL",
                "text_encoder": "CLIPTextModelWithProjection",
                "text_encoder_2": "CLIPTextModelWithProjection",
                "text_encoder_3": "T5EncoderModel",
            },
            others={
                "tokenizer": "CLIPTokenizer",
                "tokenizer_2": "CLIPTokenizer",
                "tokenizer_3": "T5Tokenizer",
                "scheduler": "FlowMatchEulerDiscreteScheduler",
            },
            load=_load_sd3,
        ),
        FamilyEntry(
            name="flux",
            pipelines=("FluxPipeline",),
            denoiser="transformer",
            weights={
                "transformer": "FluxTransformer2DModel",
                "vae": "AutoencoderKL",
                "text_encoder": "CLIPTextModel",
                "text_encoder_2": "T5EncoderModel",
            },
            others={
                "tokenizer": "CLIPTokenizer",
                "tokenizer_2": "T5Tokenizer",
                "scheduler": "FlowMatchEulerDiscreteScheduler",
            },
            load=_load_flux,
            sample_size=128,
        ),
    )
}


def family_of_pipeline(pipeline: str) -> FamilyEntry | None:
    """The family that the class named in ``model_index.json`` belongs to, or None."""
    return next((entry for entry in FAMILIES.values() if pipeline in entry.pipelines), None)
