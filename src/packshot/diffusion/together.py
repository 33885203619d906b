"""Trains several tasks on one frozen base at once; each as if it were alone. Knows no family and no method.

Every member has its own parameters, optimiser, gradient norm, random draws, checkpoints and figures, so the weights it
gets do not depend on who else is in the group: members may have other numbers of steps, batch sizes, ranks and methods,
may come from checkpoints of other steps, and leave when they end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from packshot.diffusion.batches import Batch, BatchPlan
from packshot.diffusion.course import Course
from packshot.diffusion.loop import Loop, squared_errors
from packshot.diffusion.methods import METHODS
from packshot.diffusion.preparation import Preparation
from packshot.diffusion.protocols import Attachment, Conditioning, Family, Token
from packshot.diffusion.runs import loop_of, trained
from packshot.diffusion.slots import Layout, OwnLayer, attached, put_in
from packshot.ports import GroupMember


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A member with all that it brings, before anything is in the base."""

    member: GroupMember
    plan: BatchPlan
    token: Token
    attachment: Attachment
    layers: dict[tuple[str, str], OwnLayer]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A member under way."""

    number: int
    member: GroupMember
    loop: Loop
    course: Course
    token: Token

    @property
    def num_samples(self) -> int:
        """Pictures in a batch."""
        config = self.loop.config
        return config.batch_size * (2 if config.uses_prior_preservation else 1)


@dataclass(frozen=True, kw_only=True)
class SlotEncoder:
    """The base's text encoders as one slot has them: with its token and its adapters."""

    base: Family
    layout: Layout
    number: int
    token: Token

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts to conditioning."""
        with self.token.read(), self.layout.of([(self.number, len(prompts))]):
            return self.base.encode_prompts(prompts)


def train_members(base: Family, preparation: Preparation, members: Sequence[GroupMember], max_samples: int) -> None:
    """Carry out the trainings of ``members`` that have not ended; see ``Trainer.train_together``."""
    prepared: list[Prepared] = []
    for member in members:
        if not member.ended():
            with member.own():
                prepared.append(_prepare(base, preparation, member))
    layout = Layout()
    with put_in(base, [each.layers for each in prepared], layout):
        known: dict[str, Conditioning] = {}
        slots: list[Slot] = []
        for number, each in enumerate(prepared):
            with each.member.own():
                slots.append(_start(base, layout, known, number, each))
        while slots := [slot for slot in slots if not slot.member.ended()]:
            _step(layout, slots, max_samples)


def _prepare(base: Family, preparation: Preparation, member: GroupMember) -> Prepared:
    task, config = member.task, member.task.config
    plan = preparation.plan(task, member.report, member.stop)
    token = base.new_token(task.token, base.initial_rows(task.class_noun, config.seed, config.num_vectors))
    attachment, layers = attached(base, lambda: METHODS[config.method].attach(base, token.rows, config))
    return Prepared(member=member, plan=plan, token=token, attachment=attachment, layers=layers)


def _start(base: Family, layout: Layout, known: dict[str, Conditioning], number: int, prepared: Prepared) -> Slot:
    member, token = prepared.member, prepared.token
    encoder = SlotEncoder(base=base, layout=layout, number=number, token=token)
    loop = loop_of(
        member.task,
        base,
        prepared.plan,
        prepared.attachment,
        token.rows,
        encoder=encoder,
        known=known,
        passing=lambda count: layout.of([(number, count)]),
    )
    course = loop.start()
    loop.looks.look(course, member.report, member.stop)
    if course.finished:
        member.finish(trained(member.task, loop, course, token.rows))
    return Slot(number=number, member=member, loop=loop, course=course, token=token)


def _step(layout: Layout, slots: Sequence[Slot], max_samples: int) -> None:
    """One step of every slot, as many slots at a time as ``max_samples`` allows."""
    for slot in slots:
        with slot.member.own():
            slot.course.check(slot.member.stop)
    for together in _shares([slot for slot in slots if not slot.member.ended()], max_samples):
        _learn(layout, together)
        for slot in together:
            with slot.member.own():
                slot.course.take_step(slot.member.report)
                slot.loop.looks.look(slot.course, slot.member.report, slot.member.stop)
                if slot.course.finished:
                    slot.member.finish(trained(slot.member.task, slot.loop, slot.course, slot.token.rows))


def _shares(slots: Sequence[Slot], max_samples: int) -> Iterator[list[Slot]]:
    together: list[Slot] = []
    for slot in slots:
        if together and sum(each.num_samples for each in [*together, slot]) > max_samples:
            yield together
            together = []
        together.append(slot)
    if together:
        yield together


def _learn(layout: Layout, slots: Sequence[Slot]) -> None:
    """Gradients of the next step, of all slots in one backward pass: a sum's gradients are those of its parts."""
    for numbers in zip(*(slot.course.batches for slot in slots), strict=True):
        drawn = [slot.loop.plan.batch(number) for slot, number in zip(slots, numbers, strict=True)]
        errors = _errors(layout, slots, drawn)
        shares = [
            slot.course.share(slot.loop.losses_of(batches, of_slot))
            for slot, batches, of_slot in zip(slots, drawn, errors, strict=True)
        ]
        learning = [share for share in shares if share is not None]
        if learning:
            sum(learning[1:], start=learning[0]).backward()


def _errors(layout: Layout, slots: Sequence[Slot], drawn: Sequence[Sequence[Batch]]) -> list[list[Tensor]]:
    """The squared errors of every slot's batches. Those of one place and one shape pass through the base together."""
    errors: list[list[Tensor]] = [[] for _ in slots]
    for place in range(max(len(batches) for batches in drawn)):
        there = [number for number, batches in enumerate(drawn) if place < len(batches)]
        for shape in dict.fromkeys(drawn[number][place].latents.shape[1:] for number in there):
            alike = [number for number in there if drawn[number][place].latents.shape[1:] == shape]
            parts = [(slots[number].loop, drawn[number][place]) for number in alike]
            rows = [(slots[number].number, len(drawn[number][place].latents)) for number in alike]
            with layout.of(rows):
                found = squared_errors(parts)
            for number, error in zip(alike, found, strict=True):
                errors[number].append(error)
    return errors
