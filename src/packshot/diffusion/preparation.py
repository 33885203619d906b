"""From a task to its batches: class images, latents, prompts. The base is bare while it lasts. Knows no method."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from packshot.diffusion.batches import BatchPlan, Example
from packshot.diffusion.cache import LatentCache
from packshot.diffusion.class_images import ClassImageSet, class_images
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.lessons import Teacher
from packshot.diffusion.pictures import Size, bucket, frame_of_png, mask_from_png
from packshot.diffusion.protocols import Family
from packshot.domain.errors import Interrupted
from packshot.domain.training_prompts import class_prompt, class_prompts, instance_prompt, plain_prompt
from packshot.ports import Progress, TrainingExample, TrainingTask

ENCODING = "encoding"

# A picture with its prompt and, of a reference photo, where it comes from.
_Source = tuple[bytes, str, TrainingExample | None]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Prepares tasks on one base. Trainings with the same class images have them encoded, and in memory, once."""

    base: Family
    generator: DiffusersGenerator
    _of_classes: dict[Hashable, list[Example]] = field(default_factory=dict[Hashable, list[Example]])

    def plan(self, task: TrainingTask, report: Callable[[Progress], None], stop: Callable[[], bool]) -> BatchPlan:
        """The batches of ``task``.

        Raises:
            Interrupted: ``stop()`` became true; what was made is kept.
            InvalidInput: a size that the base cannot have.
            WorkspaceUnusable: nothing can be written.
        """

        def check_stop() -> None:
            if stop():
                raise Interrupted("stopped while preparing; the same command goes on with what was prepared")

        sources: list[_Source] = [
            (each.image, instance_prompt(each.caption, task.class_noun, task.trained_phrase), each)
            for each in task.examples
        ]
        config = task.config
        teacher = Teacher(
            base=self.base,
            config=config,
            max_batch=self.generator.max_batch,
            report=report,
            check_stop=check_stop,
        )
        class_examples: list[Example] = []
        if not config.uses_prior_preservation:
            instances = self._encode(task, sources, report, check_stop)
        else:
            wanted = self._wanted(task)
            key = (
                tuple(wanted),
                config.mirrors_class_images,
                config.aspect_ratio_buckets,
                config.predictions_per_class_image,
            )
            if key not in self._of_classes:
                made = class_images(wanted, self.generator, task.cachedir, report, check_stop)
                sources += [(png, prompt, None) for prompt, png in made]
            encoded = self._encode(task, sources, report, check_stop)
            instances = encoded[: len(task.examples)]
            if key not in self._of_classes:
                fresh = encoded[len(task.examples) :]
                if config.predictions_per_class_image:
                    fresh = teacher.of_class_images(fresh)
                self._of_classes[key] = fresh
            class_examples = self._of_classes[key]
        if config.predictions_per_photo(len(instances)):
            prompted = [each for each in class_examples if each.prompt]
            instances = teacher.of_surroundings(
                instances, prompted, phrase=task.trained_phrase, class_noun=task.class_noun
            )
        return BatchPlan(
            instances=instances,
            class_examples=class_examples,
            config=config,
            draw_timesteps=self.base.draw_timesteps,
        )

    def _wanted(self, task: TrainingTask) -> list[ClassImageSet]:
        """The sets of class images: of the plain class, and of the captions, as many of each."""
        config = task.config
        plain = (
            plain_prompt(each.caption, task.class_noun, task.trained_phrase) for each in task.examples if each.caption
        )
        captions = (
            class_prompts(plain, task.class_noun)[: config.num_class_images // 2] if config.class_captions else []
        )
        of_each = round(config.num_class_images // 2 / len(captions)) if captions else 0
        num_plain = config.num_class_images - of_each * len(captions)
        counts = [((class_prompt(task.class_noun),), num_plain), (tuple(captions), of_each)]
        return [
            ClassImageSet(
                base=task.base,
                prompts=prompts,
                count=count,
                resolution=config.resolution or self.base.resolution,
                inference_steps=config.class_inference_steps,
                guidance_scale=config.class_guidance_scale,
                max_batch=self.generator.max_batch,
            )
            for prompts, count in counts
            if count
        ]

    def _encode(
        self,
        task: TrainingTask,
        sources: Sequence[_Source],
        report: Callable[[Progress], None],
        check_stop: Callable[[], None],
    ) -> list[Example]:
        """Pictures as latents with their prompts."""
        config = task.config
        resolution = config.resolution or self.base.resolution
        self.base.latent_shape(resolution, resolution)  # a size that the base cannot have is refused before the work
        cache = LatentCache(task.cachedir / "latents", self.base, task.base.digest)
        encoded: list[Example] = []
        for number, (png, prompt, source) in enumerate(sources):
            check_stop()
            mirrors = config.mirrors if source else config.mirrors_class_images
            size = bucket(png, resolution, self.base.cell) if config.aspect_ratio_buckets else (resolution, resolution)
            encoded.append(
                Example(
                    latents=cache.latents(png, size, mirrored=False),
                    mirrored=cache.latents(png, size, mirrored=True) if mirrors else None,
                    prompt=prompt,
                    frame=frame_of_png(png, size),
                    mask=self._mask(source, size),
                )
            )
            report(Progress(phase=ENCODING, step=number + 1, num_steps=len(sources)))
        return encoded

    def _mask(self, source: TrainingExample | None, size: Size) -> Tensor | None:
        """The product's share of each latent cell; None without a mask, or where it marks nothing in the middle."""
        if source is None or source.mask is None:
            return None
        mask = mask_from_png(source.mask, size, self.base.latent_shape(*size)[1:])
        return mask if mask.any() else None
