"""What all families share: a loaded base as the sum of its parts. A family adds how prompts are read and used."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from packshot.diffusion.floats import computing
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.protocols import Conditioning, LatentDistribution, NoiseProcess, Sampler
from packshot.diffusion.text_encoders import NewToken, TextEncoder
from packshot.domain.errors import InvalidInput
from packshot.domain.training_choices import MixedPrecision


class LoadedBase:
    """The parts of ``Family`` that do not differ between families. All weights are frozen.

    Passes through denoiser and text encoders compute with ``precision``, to which their weights are kept.
    ``patch`` is the edge, in latent cells, of what the denoiser reads as one, and ``coarsest`` that of the coarsest
    it computes with; ``sample_size`` is the edge of its native latents.
    """

    prefix: ClassVar[str]
    embeds_guidance = False

    def __init__(
        self,
        *,
        denoiser: nn.Module,
        codec: LatentCodec,
        text_encoders: Sequence[TextEncoder],
        trainable_text_encoders: Sequence[TextEncoder],
        process: NoiseProcess,
        sample_size: int,
        patch: int,
        coarsest: int,
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        self.device = device
        self._precision = precision
        self._denoiser = denoiser
        self._codec = codec
        self._encoders = tuple(text_encoders)
        self._trainable = tuple(trainable_text_encoders)
        self._process = process
        self._patch = patch
        self.cell = codec.factor * coarsest
        self.resolution = codec.factor * sample_size

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts."""
        return self._denoiser

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The text encoders by the name of their folder."""
        return {encoder.name: encoder.module for encoder in self._encoders}

    @property
    def vocabularies(self) -> Mapping[str, Mapping[str, int]]:
        """Every token with its id, by text encoder."""
        return {encoder.name: encoder.vocabulary for encoder in self._encoders}

    @property
    def trainable_text_encoders(self) -> Mapping[str, nn.Module]:
        """Those that learn with ``train_text_encoder``."""
        return {encoder.name: encoder.module for encoder in self._trainable}

    def with_denoiser(self, denoiser: nn.Module) -> Self:
        """The same base, all else shared, with another network that predicts."""
        other = copy.copy(self)
        other._denoiser = denoiser
        return other

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """What the denoiser is told of prompts, in 32-bit floats."""
        with computing(self._precision, self.device):
            return {name: tensor.float() for name, tensor in self._encode_prompts(prompts).items()}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's prediction, in 32-bit floats."""
        with computing(self._precision, self.device):
            return self._predict(noisy, timesteps, conditioning).float()

    def encode_pixels(self, pixels: Tensor) -> LatentDistribution:
        """One picture, (3, height, width) in [-1, 1], to the distribution of its latents."""
        return self._codec.encode(pixels)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """One picture's latents to (3, height, width) in [-1, 1]."""
        return self._codec.decode(latents)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of the latents of a picture of this size in pixels.

        Raises:
            InvalidInput: a size that the denoiser's patches do not fill.
        """
        cell = self._codec.factor * self._patch
        if self._patch > 1 and (width % cell or height % cell):
            raise InvalidInput(f"the size is {width} x {height} pixels; this base needs multiples of {cell}")
        return self._codec.num_channels, height // self._codec.factor, width // self._codec.factor

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Time steps to train on."""
        return self._process.draw_timesteps(count, generator)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the given time steps of the forward process."""
        return self._process.add_noise(latents, noise, timesteps)

    def estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """The latents without noise, as far as a prediction tells."""
        return self._process.estimate(noisy, prediction, timesteps)

    def begin(self, sampler: Sampler, latents: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, int]:
        """What ``sampler`` begins with to keep a share of ``latents``, and at which of its steps."""
        return self._process.begin(sampler, latents, noise, strength)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser learns to predict."""
        return self._process.target(latents, noise, timesteps)

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Loss weights (Hang et al. 2023, min-SNR); ones where ``gamma`` is 0."""
        return self._process.min_snr_weights(timesteps, gamma)

    def picture_conditioning(self, frames: Tensor, guidance: float) -> dict[str, Tensor]:
        """What the denoiser is told beside the prompt: nothing."""
        del frames, guidance
        return {}

    def initial_rows(self, class_noun: str, seed: int, num_vectors: int) -> dict[str, Tensor]:
        """For each text encoder the embeddings, (num_vectors, width), that a new token starts from."""
        return {encoder.name: encoder.initial_rows(class_noun, seed, num_vectors) for encoder in self._encoders}

    def new_token(self, token: str, rows: Mapping[str, Tensor]) -> "TokenOfBase":
        """Make ``token`` for every text encoder; none of them knows it before it is read.

        Raises:
            InvalidConfiguration: the token is in a vocabulary already.
        """
        return TokenOfBase({encoder: encoder.new_token(token, rows[encoder.name]) for encoder in self._encoders})

    def _encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        raise NotImplementedError

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        raise NotImplementedError

    @contextmanager
    def with_token(self, token: str, rows: Mapping[str, Tensor]) -> Iterator[Mapping[str, nn.Parameter]]:
        """Add ``token`` to every text encoder while the context lasts; gives the parameters that hold its rows.

        Raises:
            InvalidConfiguration: the token is in a vocabulary already.
        """
        new = self.new_token(token, rows)
        with new.read():
            yield new.rows


class TokenOfBase:
    """A token of all text encoders of one base; implements ``Token``."""

    def __init__(self, tokens: Mapping[TextEncoder, NewToken]) -> None:
        self._tokens = tokens
        self.rows = {encoder.name: token.embedding.rows for encoder, token in tokens.items()}

    @contextmanager
    def read(self) -> Iterator[None]:
        """Let the base's text encoders know the token while the context lasts."""
        with ExitStack() as stack:
            for encoder, token in self._tokens.items():
                stack.enter_context(encoder.reading(token))
            yield
