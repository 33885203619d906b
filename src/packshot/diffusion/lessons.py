"""What the bare base predicts, to be preserved as it is: of class images, and of what surrounds the product. Knows no method.

The prior term of DreamBooth (Ruiz et al. 2023) compares predictions with the class images, and so has the model learn those few by
heart, which moves it from the base on its own. Compared with the base's own predictions (distillation: Hinton et al. 2015)
the term is 0 at the start, and asks for nothing but to stay. Every other prediction is of the empty prompt: classifier-free
guidance (Ho and Salimans 2022) subtracts it from the prompt's with nearly the same weight, so that a picture changes as much when it
drifts. So it is with the photos outside of their masks: their scenes are not learned by heart where the base's predictions of
the plain class stand there, least of all where the product is seen in front of class images too (cut and paste: Dwibedi et al. 2017). The
predictions are made once, before anything learns, so that they cost no pass of a step, need no
second denoiser in full fine-tuning, and those of class images serve all trainings with the same ones.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from packshot.diffusion.batches import Example, Lesson, stream
from packshot.diffusion.floats import computing
from packshot.diffusion.protocols import Family, LatentDistribution
from packshot.domain.training import TrainingConfig
from packshot.domain.training_prompts import instance_prompt, plain_prompt, subject
from packshot.ports import Progress

LEARNING = "predictions of the base"
SURROUNDINGS = "predictions around the product"
# What a base that was distilled to read a guidance scale is told in training.
GUIDANCE = 1.0

_Drawn = tuple[Example, torch.Generator]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
    """The bare base, which predicts at the most ``max_batch`` pictures at a time."""

    base: Family
    config: TrainingConfig
    max_batch: int
    report: Callable[[Progress], None]
    check_stop: Callable[[], None]

    def of_class_images(self, examples: Sequence[Example]) -> list[Example]:
        """Every class image once for each of its lessons; the second, fourth … without a prompt.

        A base that reads the guidance scale itself subtracts nothing, so that all of its lessons have their prompt.
        """
        drawn: list[_Drawn] = []
        for number in range(self.config.predictions_per_class_image):
            unprompted = number % 2 and not self.base.embeds_guidance
            drawn += [
                (dataclasses.replace(each, prompt="") if unprompted else each, stream(0, "lesson", place, number))
                for place, each in enumerate(examples)
            ]
        return self._predicted(drawn, LEARNING)

    def of_surroundings(
        self, photos: Sequence[Example], class_images: Sequence[Example], *, phrase: str, class_noun: str
    ) -> list[Example]:
        """Every photo with a mask once for each of its lessons, half of them mirrored where it is; others as often, without.

        Photos are as they were if none has a mask. Outside of the mask a lesson's target is what the base predicts with
        ``class_noun`` in place of ``phrase``. In the configured share of lessons what is outside of the mask, and the prompt, is of
        a class image of the same shape, whose prompt names as many of the product.
        """
        count = self.config.predictions_per_photo(len(photos))
        drawn: list[_Drawn] = []
        prompts: list[str] = []
        for place, photo in enumerate(photos):
            if photo.mask is None:
                continue
            plain = dataclasses.replace(photo, prompt=plain_prompt(photo.prompt, class_noun, phrase), mirrored=None)
            sides = [plain]
            if photo.mirrored:
                sides.append(dataclasses.replace(plain, latents=photo.mirrored, mask=photo.mask.flip(-1)))
            shown = subject(plain.prompt, class_noun)
            grounds = [
                each
                for each in class_images
                if subject(each.prompt, class_noun) == shown and each.latents.mean.shape == photo.latents.mean.shape
            ]
            for number in range(count):
                side, prompt = sides[number % len(sides)], photo.prompt
                choice = stream(0, "ground", place, number)
                if grounds and torch.rand((), generator=choice) < self.config.background_replacement:
                    ground = grounds[int(torch.randint(len(grounds), (), generator=choice))]
                    side = _before(ground, side)
                    prompt = instance_prompt(ground.prompt, class_noun, phrase)
                drawn.append((side, stream(0, "surroundings", place, number)))
                prompts.append(prompt)
        if not drawn:
            return list(photos)
        unmasked = [photo for photo in photos if photo.mask is None]
        return [
            *(
                self._inside(each, prompt)
                for each, prompt in zip(self._predicted(drawn, SURROUNDINGS), prompts, strict=True)
            ),
            *(photo for photo in unmasked for _ in range(count)),
        ]

    def _inside(self, example: Example, prompt: str) -> Example:
        """The example with the photo's own target inside of its mask."""
        lesson, mask = example.lesson, example.mask
        assert lesson is not None
        assert mask is not None
        seen = (example.latents.mean, lesson.noise, lesson.timestep)
        photo = self.base.target(*(each[None].to(self.base.device) for each in seen))[0].cpu()
        target = mask * photo + (1 - mask) * lesson.target
        return dataclasses.replace(example, prompt=prompt, lesson=dataclasses.replace(lesson, target=target))

    def _predicted(self, drawn: Sequence[_Drawn], phase: str) -> list[Example]:
        found: list[Example] = []
        for start in range(0, len(drawn), self.max_batch):
            self.check_stop()
            found += self._predicted_at_once(drawn[start : start + self.max_batch])
            self.report(Progress(phase=phase, step=len(found), num_steps=len(drawn)))
        return found

    @torch.no_grad()
    def _predicted_at_once(self, drawn: Sequence[_Drawn]) -> list[Example]:
        """The examples, each with a latent, noise and time step that its generator draws."""
        base = self.base
        latents = [_sampled(example.latents, generator) for example, generator in drawn]
        noise = [
            torch.randn(latent.shape, generator=generator)
            for latent, (_, generator) in zip(latents, drawn, strict=True)
        ]
        timesteps = torch.cat([base.draw_timesteps(1, generator) for _, generator in drawn])
        noisy = base.add_noise(
            *(each.to(base.device) for each in (torch.stack(latents), torch.stack(noise), timesteps))
        )
        frames = torch.tensor([example.frame for example, _ in drawn], dtype=torch.float32)
        with computing(self.config.mixed_precision, base.device):
            told = base.encode_prompts([example.prompt for example, _ in drawn])
            predictions = base.predict(
                noisy, timesteps.to(base.device), {**told, **base.picture_conditioning(frames, GUIDANCE)}
            )
        return [
            dataclasses.replace(
                example,
                latents=LatentDistribution(mean=latent, std=torch.zeros_like(latent)),
                lesson=Lesson(noise=each, timestep=timestep, target=prediction),
            )
            for (example, _), latent, each, timestep, prediction in zip(
                drawn, latents, noise, timesteps, predictions.cpu(), strict=True
            )
        ]


def _before(ground: Example, photo: Example) -> Example:
    """The photo's product, by its mask, in front of the class image, with that one's prompt."""
    assert photo.mask is not None
    share, own, others = photo.mask, photo.latents, ground.latents
    latents = LatentDistribution(
        mean=share * own.mean + (1 - share) * others.mean, std=share * own.std + (1 - share) * others.std
    )
    return dataclasses.replace(photo, latents=latents, prompt=ground.prompt)


def _sampled(latents: LatentDistribution, generator: torch.Generator) -> Tensor:
    return latents.mean + latents.std * torch.randn(latents.mean.shape, generator=generator)
