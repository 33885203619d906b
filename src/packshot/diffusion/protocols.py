"""What the training loop and the sampler ask of a family (how a base works) and of a method (what learns in it).

Knows neither families nor methods; they know this page and not each other.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn

# What the names of a token's rows begin with in files, before the name of the text encoder.
TOKEN_PREFIX = "token."

# What a denoiser is conditioned on, by name; every tensor's first dimension is the batch.
Conditioning = dict[str, Tensor]

# What an adapted layer adds to the results of the frozen one, given its inputs.
Addition = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class LatentDistribution:
    """Mean and deviation of one image's latents, each (channels, height, width), scaled as the denoiser sees them."""

    mean: Tensor
    std: Tensor


# How a picture was cut, in pixels: height and width of the original, top and left corner of the cut in the picture's
# own scale, height and width of the picture.
Frame = tuple[int, int, int, int, int, int]


class Sampler(Protocol):
    """A diffusers scheduler, set to its time steps."""

    timesteps: Tensor
    init_noise_sigma: float

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The sample as the denoiser wants it at this time step."""
        ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor]:
        """The sample one step less noisy."""
        ...


class NoiseProcess(Protocol):
    """How a base's pictures become noise, and what it learns from that. Tensors' first dimension is the batch."""

    num_train_timesteps: int

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Time steps to train on."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the given time steps of the forward process."""
        ...

    def estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """The latents without noise, as far as a prediction tells."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser learns to predict."""
        ...

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Loss weights (Hang et al. 2023, min-SNR); ones where ``gamma`` is 0."""
        ...

    def begin(self, sampler: Sampler, latents: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, int]:
        """What ``sampler`` begins with to keep a share of ``latents``, and at which of its steps."""
        ...


class Token(Protocol):
    """A token that a base was given, with the parameters that hold its rows by text encoder."""

    @property
    def rows(self) -> Mapping[str, nn.Parameter]:
        """The parameters by the name of the text encoder."""
        ...

    def read(self) -> AbstractContextManager[None]:
        """Let the base know the token while the context lasts; one at a time. Leaves the base as it was."""
        ...


class Family(Protocol):
    """A loaded base: how it encodes pictures and prompts, adds noise and predicts. All weights are frozen.

    ``embeds_guidance``: the denoiser itself reads the guidance scale, so that no negative prompt takes part. ``cell``:
    width and height in pixels must be multiples of it where they are ours to choose.
    """

    device: torch.device
    resolution: int
    cell: int
    embeds_guidance: bool

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts."""
        ...

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The text encoders by the name of their folder."""
        ...

    @property
    def vocabularies(self) -> Mapping[str, Mapping[str, int]]:
        """Every token with its id, by text encoder."""
        ...

    @property
    def trainable_text_encoders(self) -> Mapping[str, nn.Module]:
        """Those of the text encoders that learn with ``train_text_encoder``."""
        ...

    @property
    def prefix(self) -> str:
        """What the names of the denoiser's parameters begin with in files, for example ``unet``."""
        ...

    def with_denoiser(self, denoiser: nn.Module) -> Self:
        """The same base, all else shared, with another network that predicts."""
        ...

    def encode_pixels(self, pixels: Tensor) -> LatentDistribution:
        """One picture, (3, height, width) in [-1, 1], to the distribution of its latents."""
        ...

    def decode_latents(self, latents: Tensor) -> Tensor:
        """One picture's latents to (3, height, width) in [-1, 1]."""
        ...

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """The shape of the latents of a picture of this size in pixels; InvalidInput where it cannot have that."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts to conditioning; what goes beyond an encoder's length is cut off."""
        ...

    def picture_conditioning(self, frames: Tensor, guidance: float) -> Conditioning:
        """What the denoiser is told beside the prompt. ``frames`` is (batch, 6), see ``Frame``."""
        ...

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Time steps to train on."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the given time steps of the forward process."""
        ...

    def estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """The latents without noise, as far as a prediction tells."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser learns to predict."""
        ...

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Loss weights (Hang et al. 2023, min-SNR); ones where ``gamma`` is 0."""
        ...

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's output, of the latents' shape."""
        ...

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int], scheduler: str = "") -> Sampler:
        """A fresh sampler for this many steps, by the name of its scheduler or as the base itself is sampled.

        InvalidInput where the base's schedule does not have the steps, SchedulerRefused where the scheduler does not
        go with what the base predicts.
        """
        ...

    def begin(self, sampler: Sampler, latents: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, int]:
        """What ``sampler`` begins with to keep a share of ``latents``, and at which of its steps."""
        ...

    def initial_rows(self, class_noun: str, seed: int, num_vectors: int) -> dict[str, Tensor]:
        """For each text encoder the embeddings, (num_vectors, width), that a new token starts from."""
        ...

    def new_token(self, token: str, rows: Mapping[str, Tensor]) -> Token:
        """Make ``token``; the base knows it only where it is read."""
        ...

    def with_token(self, token: str, rows: Mapping[str, Tensor]) -> AbstractContextManager[Mapping[str, nn.Parameter]]:
        """Add ``token`` while the context lasts; gives the parameters that hold its rows. Leaves the base as it was."""
        ...


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that learn at one rate, by the name that they have in files; ``decays`` = with weight decay."""

    parameters: Mapping[str, nn.Parameter]
    learning_rate: float
    decays: bool = True


def token_group(rows: Mapping[str, nn.Parameter], learning_rate: float) -> ParameterGroup:
    """The token's rows of all text encoders, which learn from now on and never decay."""
    for row in rows.values():
        row.requires_grad_(True)
    parameters = {TOKEN_PREFIX + name: row for name, row in rows.items()}
    return ParameterGroup(parameters=parameters, learning_rate=learning_rate, decays=False)


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """What a method has put into a base. ``detach`` takes it out: the base is then what it was, to the bit.

    ``addition_of`` gives for a layer that the method has put in what it adds, given its inputs, to the results of the
    frozen layer that it stands before; None where it does something else than add.
    """

    groups: tuple[ParameterGroup, ...]
    text_encoder_learns: bool
    detach: Callable[[], None]
    addition_of: Callable[[nn.Module], Addition | None] = lambda layer: None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that learns, by name."""
        return {name: parameter for group in self.groups for name, parameter in group.parameters.items()}
