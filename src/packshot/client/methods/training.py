"""Trainings and evaluations."""

from collections.abc import Callable

from packshot.client.flows import Flow, Method, call, collect, exchange, wait, watch
from packshot.domain.evaluation import Evaluation
from packshot.domain.models import EMBEDDED_BASE
from packshot.services.estimates import Estimate
from packshot.web.schemas import EvaluationJob, Page, ReadEvaluation, Training


class TrainingMethods:
    """Trainings and evaluations."""

    @Method
    def estimate_training(
        self, category: str, *, base: str = EMBEDDED_BASE, **config: str | int | float | bool
    ) -> Flow[Estimate]:
        """What ``train`` with the same arguments would make and take; nothing is recorded."""
        body = {"category": category, "base": base, "config": config, "dry_run": True}
        return (yield from call(Estimate, "POST", "/v1/trainings", json=body))

    @Method
    def train(self, category: str, *, base: str = EMBEDDED_BASE, **config: str | int | float | bool) -> Flow[Training]:
        """Queue a training of the newest frozen set; see it through with ``wait_for_training``."""
        body = {"category": category, "base": base, "config": config}
        return (yield from call(Training, "POST", "/v1/trainings", json=body))

    @Method
    def training(self, training_id: str) -> Flow[Training]:
        """Where a training stands."""
        return (yield from call(Training, "GET", f"/v1/trainings/{training_id}"))

    @Method
    def wait_for_training(
        self, training_id: str, *, report: Callable[[Training], None] = lambda _: None, poll_s: float = 1.0
    ) -> Flow[Training]:
        """The training once it has succeeded; ``report`` is told each change. JobFailed: it failed or was canceled."""
        return (yield from wait(Training, f"/v1/trainings/{training_id}", report, poll_s))

    @Method
    def watch_training(
        self, training_id: str, *, report: Callable[[Training], None] = lambda _: None
    ) -> Flow[Training]:
        """As ``wait_for_training``, told by the server as it happens instead of asked for again and again."""
        return (yield from watch(Training, f"/v1/trainings/{training_id}/events", report))

    @Method
    def trainings(self) -> Flow[list[Training]]:
        """The trainings of the namespace, the oldest first."""
        return (yield from collect(Page[Training], "/v1/trainings"))

    @Method
    def cancel_training(self, training_id: str) -> Flow[Training]:
        """End a training that waits or runs."""
        return (yield from call(Training, "POST", f"/v1/trainings/{training_id}/cancel"))

    @Method
    def evaluations(self, fine_tune_id: str) -> Flow[list[Evaluation]]:
        """The evaluations of a version, the oldest first."""
        return (yield from collect(Page[ReadEvaluation], f"/v1/fine-tunes/{fine_tune_id}/evaluations"))

    @Method
    def estimate_evaluation(self, fine_tune_id: str, *, images_per_scene: int = 5, seed: int = 1000) -> Flow[Estimate]:
        """What ``evaluate`` with the same arguments would make and take; nothing is recorded."""
        body = {"fine_tune_id": fine_tune_id, "images_per_scene": images_per_scene, "seed": seed, "dry_run": True}
        return (yield from call(Estimate, "POST", "/v1/evaluations", json=body))

    @Method
    def evaluate(self, fine_tune_id: str, *, images_per_scene: int = 5, seed: int = 1000) -> Flow[EvaluationJob]:
        """Queue an evaluation; see it through with ``wait_for_evaluation``."""
        body = {"fine_tune_id": fine_tune_id, "images_per_scene": images_per_scene, "seed": seed}
        return (yield from call(EvaluationJob, "POST", "/v1/evaluations", json=body))

    @Method
    def evaluation(self, evaluation_id: str) -> Flow[EvaluationJob]:
        """Where an evaluation stands, and its scores once they are there."""
        return (yield from call(EvaluationJob, "GET", f"/v1/evaluations/{evaluation_id}"))

    @Method
    def wait_for_evaluation(
        self, evaluation_id: str, *, report: Callable[[EvaluationJob], None] = lambda _: None, poll_s: float = 1.0
    ) -> Flow[EvaluationJob]:
        """The evaluation once it has succeeded. JobFailed: it failed or was canceled."""
        return (yield from wait(EvaluationJob, f"/v1/evaluations/{evaluation_id}", report, poll_s))

    @Method
    def evaluation_file(self, evaluation_id: str, name: str) -> Flow[bytes]:
        """A file of an evaluation that has succeeded, such as sheet.png; ``artifacts`` lists them."""
        return (yield from exchange("GET", f"/v1/evaluations/{evaluation_id}/files/{name}")).content

    @Method
    def cancel_evaluation(self, evaluation_id: str) -> Flow[EvaluationJob]:
        """End an evaluation that waits or runs."""
        return (yield from call(EvaluationJob, "POST", f"/v1/evaluations/{evaluation_id}/cancel"))
