"""Stable Diffusion 1.x and 2.x, and bases of the same parts: how they encode, noise, predict. Knows no method."""

import copy
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from packshot.diffusion.protocols import Conditioning, LatentDistribution, Sampler
from packshot.domain.errors import BaseModelRefused, InvalidConfiguration, InvalidInput

M = TypeVar("M", bound=nn.Module)

PREDICTION_TYPES = ("epsilon", "v_prediction")

# A new token starts at its class noun, moved by this share of the vocabulary's own spread: near enough to mean the
# class, far enough that a frozen row can be told from the noun.
TOKEN_NOISE = 0.2


class EmbeddingWithToken(nn.Module):
    """A frozen embedding table with one more row, which is a parameter of its own."""

    def __init__(self, table: nn.Embedding, row: Tensor, token_id: int) -> None:
        super().__init__()
        self.table = table
        self.token_id = token_id
        self.row = nn.Parameter(row.to(table.weight).clone(), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of any shape to embeddings; ``token_id`` may lie behind the table's end."""
        added = ids == self.token_id
        return torch.where(added[..., None], self.row[0], self.table(ids.masked_fill(added, 0)))


@dataclass
class _Text:
    """The text encoder and the tokenizer in use."""

    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer


class StableDiffusion:
    """A loaded base of AutoencoderKL, CLIPTextModel and UNet2DConditionModel; implements ``Family``."""

    prefix = "unet"

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler_config: dict[str, object],
        device: torch.device,
    ) -> None:
        self.device = device
        self._unet = _frozen(unet, device)
        self._vae = _frozen(vae, device)
        self._text = _Text(_frozen(text_encoder, device), tokenizer)
        self._scheduler_config = scheduler_config
        schedule = _ddpm(scheduler_config)
        self._prediction_type = str(schedule.config["prediction_type"])
        if self._prediction_type not in PREDICTION_TYPES:
            raise BaseModelRefused(
                f"the base predicts {self._prediction_type!r}; supported are {', '.join(PREDICTION_TYPES)}"
            )
        self._schedule = schedule
        self._alphas_cumprod = schedule.alphas_cumprod.to(device)
        self.num_train_timesteps = int(schedule.config["num_train_timesteps"])
        self._factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        sample_size = unet.config["sample_size"]
        self.resolution = self._factor * int(sample_size[0] if isinstance(sample_size, list | tuple) else sample_size)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """Load the components in ``folder`` from safetensors alone, in 32-bit floats.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            unet = _complete("unet", UNet2DConditionModel.from_pretrained(folder / "unet", **options))
            vae = _complete("vae", AutoencoderKL.from_pretrained(folder / "vae", **options))
            text_encoder = _complete(
                "text_encoder", CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **options)
            )
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        return cls(
            unet=cast(UNet2DConditionModel, unet.float()),
            vae=cast(AutoencoderKL, vae.float()),
            text_encoder=cast(CLIPTextModel, text_encoder),
            tokenizer=cast(CLIPTokenizer, tokenizer),
            scheduler_config=json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
            device=device,
        )

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        return self._unet

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The one CLIP text encoder."""
        return {"text_encoder": self._text.encoder}

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> LatentDistribution:
        """(3, height, width) in [-1, 1] to scaled latents' mean and standard deviation."""
        posterior = cast(Any, self._vae).encode(pixels[None].to(self.device)).latent_dist
        scale = float(self._vae.config["scaling_factor"])
        return LatentDistribution(mean=posterior.mean[0].cpu() * scale, std=posterior.std[0].cpu() * scale)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """(channels, height, width) of scaled latents to pixels in [-1, 1]."""
        scale = float(self._vae.config["scaling_factor"])
        return cast(Any, self._vae).decode(latents[None] / scale).sample[0]

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of the latents of a picture of this size in pixels."""
        return int(self._vae.config["latent_channels"]), height // self._factor, width // self._factor

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The last hidden states, (batch, tokens, width), of prompts padded and cut to the encoder's length."""
        length = self._text.encoder.config.max_position_embeddings
        tokens = self._text.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=min(self._text.tokenizer.model_max_length, length),
            return_tensors="pt",
        )
        ids = cast(Tensor, tokens.input_ids).to(self.device)
        return {"hidden_states": cast(Any, self._text.encoder)(ids).last_hidden_state}

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The variance-preserving forward process (Ho et al. 2020)."""
        signal, deviation = self._signal_and_deviation(timesteps)
        return signal * latents + deviation * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, or the velocity (Salimans and Ho 2022) where the base predicts that."""
        if self._prediction_type == "epsilon":
            return noise
        signal, deviation = self._signal_and_deviation(timesteps)
        return signal * noise - deviation * latents

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """min(SNR, gamma) / SNR for epsilon, / (SNR + 1) for velocity (Hang et al. 2023); ones for gamma 0."""
        if gamma == 0:
            return torch.ones(len(timesteps), device=self.device)
        alphas = self._alphas_cumprod[timesteps]
        snr = alphas / (1 - alphas)
        if self._prediction_type == "epsilon":
            return (gamma / snr).clamp(max=1.0)
        return snr.clamp(max=gamma) / (snr + 1)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction."""
        return cast(Any, self._unet)(noisy, timesteps, conditioning["hidden_states"]).sample

    def new_sampler(self, inference_steps: int) -> Sampler:
        """DPM-Solver++ multistep (Lu et al. 2022) on the base's own noise schedule.

        Raises:
            InvalidInput: more steps than the schedule has noise levels, between which the solver would divide by zero.
        """
        sampler = DPMSolverMultistepScheduler.from_config(
            _known(self._scheduler_config, DPMSolverMultistepScheduler), algorithm_type="dpmsolver++"
        )
        sampler = cast(DPMSolverMultistepScheduler, sampler)
        sampler.set_timesteps(inference_steps, device=cast(Any, self.device))
        if (sampler.sigmas.diff() >= 0).any():
            raise InvalidInput(
                f"inference_steps is {inference_steps}, more than the noise schedule of the base can be divided into; "
                f"ask for at most {self.num_train_timesteps // 2}"
            )
        return cast(Sampler, sampler)

    def initial_rows(self, class_noun: str, seed: int) -> dict[str, Tensor]:
        """The mean embedding of the class noun's tokens plus a little seeded noise."""
        table = self._table().weight.detach()
        ids = self._text.tokenizer(class_noun, add_special_tokens=False).input_ids
        mean = table[torch.tensor(ids, device=table.device)].mean(0, keepdim=True).cpu()
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        return {"text_encoder": mean + TOKEN_NOISE * table.std().cpu() * noise}

    @contextmanager
    def with_token(self, token: str, rows: Mapping[str, Tensor]) -> Iterator[Mapping[str, nn.Parameter]]:
        """Add ``token`` to a copy of the tokenizer and a row to the embedding; take both out at the end.

        Raises:
            InvalidConfiguration: the token is in the vocabulary, so that it would mean something already.
        """
        table, tokenizer = self._table(), copy.deepcopy(self._text.tokenizer)
        if token in tokenizer.get_vocab():
            raise InvalidConfiguration(
                f"the token {token!r} is in the base's vocabulary already; the trained token must be a new word, "
                "such as '<packshot-1f3a>'"
            )
        cast(Any, tokenizer).add_tokens([AddedToken(token, normalized=False)])
        token_id = cast(int, tokenizer.convert_tokens_to_ids(token))
        embedding = EmbeddingWithToken(table, rows["text_encoder"], token_id)
        plain = self._text
        self._text = replace(plain, tokenizer=tokenizer)
        plain.encoder.set_input_embeddings(embedding)
        try:
            yield {"text_encoder": embedding.row}
        finally:
            plain.encoder.set_input_embeddings(table)
            self._text = plain

    def _table(self) -> nn.Embedding:
        table = self._text.encoder.get_input_embeddings()
        assert isinstance(table, nn.Embedding), "one token at a time"
        return table

    def _signal_and_deviation(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self._alphas_cumprod[timesteps][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()


def _frozen(module: M, device: torch.device) -> M:
    nn.Module.to(module, device).eval().requires_grad_(False)
    return module


def _complete(component: str, loaded: Any) -> nn.Module:
    """The module, once it is certain that no weight was missing (diffusers would leave it at random)."""
    module, info = loaded
    wrong = [*info["missing_keys"], *info["mismatched_keys"]]
    if wrong:
        raise BaseModelRefused(
            f"the weights of the base's {component} lack {wrong[0]!r} or have another shape ({len(wrong)} such); "
            "copy the folder anew"
        )
    return module


def _known(config: Mapping[str, object], scheduler: type) -> dict[str, object]:
    """The part of a scheduler's configuration that another scheduler knows too."""
    names = inspect.signature(scheduler.__init__).parameters
    return {key: value for key, value in config.items() if key in names}


def _ddpm(config: Mapping[str, object]) -> Any:
    return DDPMScheduler.from_config(_known(config, DDPMScheduler))
