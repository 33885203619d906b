"""What a training shows of itself on its way: its validation prompts as samples, and their pictures on one sheet."""

from collections.abc import Mapping, Sequence

from packshot.domain.catalog import Category
from packshot.domain.generation import Subject, find_subject, rewrite_prompt
from packshot.domain.training import PRODUCT, TrainingConfig
from packshot.imaging.sheets import Row, comparison_sheet
from packshot.ports import Sample

SHEET = "validation.png"


def validation_samples(category: Category, config: TrainingConfig, phrase: str) -> tuple[Sample, ...]:
    """The validation prompts as the model reads them, with ``phrase`` for the product. All have the run's seed.

    Raises:
        UnknownIdentifier: a prompt names another category than the one that is trained.
    """
    samples: list[Sample] = []
    for prompt in config.validation_prompts:
        named = prompt.replace(PRODUCT, category.identifier)
        find_subject(named, [category])
        subject = Subject(category=category, spelling=category.identifier)
        samples.append(Sample(prompt=rewrite_prompt(named, subject, phrase), seed=config.seed))
    return tuple(samples)


def validation_files(config: TrainingConfig, pictures: Mapping[int, Sequence[bytes]], title: str) -> dict[str, bytes]:
    """The pictures of every look, and all on one sheet: a row for each prompt, a column for each number of steps."""
    steps = sorted(pictures)
    rows = [
        Row(label=prompt, images=[pictures[step][number] for step in steps])
        for number, prompt in enumerate(config.validation_prompts)
    ]
    return {
        SHEET: comparison_sheet(rows, [f"step {step}" for step in steps], title=title),
        **{
            f"validation-{step:06d}-{number + 1:02d}.png": picture
            for step in steps
            for number, picture in enumerate(pictures[step])
        },
    }
