"""Fault test 15: versions are promoted and rolled back while several servers and their workers make pictures."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from faults.catalogs import QUICK_SAMPLING, Catalog, Product, differs, digest_of, told_digest
from faults.registry import Check, Setting, fault
from faults.servers import server
from packshot import Client
from packshot.bootstrap import Workspace, create_workspace
from packshot.domain.jobs import Job
from packshot.services.access import create_key
from packshot.services.artifacts import load_fine_tune
from packshot.services.jobs import no_report
from packshot.settings import Settings

MOST_S = 5.0
PATIENCE_S = 300.0
NUM_IMAGES = 3
NUM_SEEDS = 4
SETTINGS = {name: getattr(QUICK_SAMPLING, name) for name in ("inference_steps", "guidance_scale", "width", "height")}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered a request with: when it was begun, accepted and ended, by one clock."""

    replica: int
    seed: int
    begun: float
    accepted: float
    ended: float
    pngs: tuple[bytes, ...]
    error: str = ""

    @property
    def digests(self) -> set[str]:
        return set(map(told_digest, self.pngs))


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A promotion or rollback, and what serves after it."""

    begun: float
    ended: float
    digest: str


@dataclass(kw_only=True)
class Load:
    """Clients that ask again and again; their answers."""

    prompt: str
    answers: list[Answer] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, replica: int, client: Client) -> None:
        seed = 0
        while not self.over.is_set():
            begun, seed = time.monotonic(), (seed + 1) % NUM_SEEDS
            pngs: list[bytes] = []
            error, accepted = "", float("inf")
            try:
                asked = client.start_generation(self.prompt, seed=seed, num_images=NUM_IMAGES, **SETTINGS)
                accepted = time.monotonic()
                made = client.wait_for_generation(asked.id, poll_s=0.05)
                pngs = [client.image(each.id) for each in made.images]
            except Exception as failure:  # noqa: BLE001 whatever a caller sees is a finding
                error = f"{type(failure).__name__}: {failure}"
            self.answers.append(
                Answer(
                    replica=replica,
                    seed=seed,
                    begun=begun,
                    accepted=accepted,
                    ended=time.monotonic(),
                    pngs=tuple(pngs),
                    error=error,
                )
            )


@fault(15, "switches", passes="no error, no mixed versions inside one request; all replicas switched within 5 s")
def switches(setting: Setting) -> list[Check]:
    """Two servers, each with a worker process, over one workspace; each has clients, one is told to switch."""
    num_switches, num_clients = (4, 2) if setting.quick else (40, 4)
    with create_workspace(Settings(home=setting.workdir / "workspace")) as space, ExitStack() as running:
        catalog = Catalog(space, 2)
        product = catalog.products[1]
        _, secret = create_key(space.records, name="test", namespace=product.category.namespace, scopes=["admin"])
        replicas = [running.enter_context(server(space.home, workers=1))[1] for _ in range(2)]
        clients = [[running.enter_context(Client(url, secret)) for _ in range(num_clients)] for url in replicas]
        load = Load(prompt=product.prompt)
        with ThreadPoolExecutor(2 * num_clients) as threads:
            for number, each in enumerate(clients):
                for client in each:
                    threads.submit(load.ask, number, client)
            try:
                _wait_until(lambda: len(_workers(space)) == 2, load)
                done = [_switch(load, clients[number % 2][0], product, number) for number in range(num_switches)]
            finally:
                load.over.set()
        return _checks(load, done, _alone(space, catalog, product), _workers(space))


def _switch(load: Load, client: Client, product: Product, number: int) -> Switch:
    """Back and forth between two versions, by promotion and rollback in turn; returns when all replicas have shown it."""
    first, second = product.versions
    identifier = product.category.identifier
    begun = time.monotonic()
    if number % 4 in (0, 3):
        client.rollback(identifier)
    else:
        client.promote(identifier, (second if number % 4 == 1 else first).id, reason="a test")
    ended = time.monotonic()
    _wait_until(lambda: {each.replica for each in list(load.answers) if each.begun > ended} == {0, 1}, load)
    return Switch(begun=begun, ended=ended, digest=digest_of(first if number % 2 == 0 else second))


def _wait_until(reached: Callable[[], bool], load: Load) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"a server or a worker does nothing: {len(load.answers)} answers"
        time.sleep(0.05)


def _workers(space: Workspace) -> set[str]:
    """Those that have made pictures."""
    return {job.worker for job in space.records.find(Job, status="succeeded")}


def _alone(space: Workspace, catalog: Catalog, product: Product) -> dict[tuple[str, int], list[bytes]]:
    """What each version makes of each seed when nothing else is asked for, by the version's digest and the seed."""
    generator = space.generator
    return {
        (digest_of(version), seed): generator.generate(
            catalog.base,
            load_fine_tune(space.records, space.blobs, version),
            [product.prompt.replace(product.category.identifier, version.trained_phrase)],
            replace(QUICK_SAMPLING, seed=seed, num_images=NUM_IMAGES),
            report=no_report,
        )
        for version in product.versions
        for seed in range(NUM_SEEDS)
    }


def _checks(
    load: Load, done: list[Switch], alone: dict[tuple[str, int], list[bytes]], workers: set[str]
) -> list[Check]:
    answers = load.answers
    errors = [each.error for each in answers if each.error]
    made = [each for each in answers if not each.error]
    mixed = [f"seed {each.seed}: {each.digests}" for each in made if len(each.digests) != 1]
    other = [
        f"seed {each.seed} of {digest}: another picture than alone"
        for each in made
        for digest in sorted(each.digests)
        for png, expected in zip(each.pngs, alone[digest, each.seed], strict=True)
        if differs(png, expected) > 1
    ]
    late = [
        f"begun {each.begun - switch.ended:.2f} s after the switch to {switch.digest[:8]}, made by {each.digests}"
        for switch, following in zip(done, [*done[1:], None], strict=True)
        for each in made
        if each.begun > switch.ended
        and (following is None or each.ended < following.begun)
        and each.digests != {switch.digest}
    ]
    waits = {
        number: [_seconds_until(made, switch, replica, number) for switch in done for replica in (0, 1)]
        for number in ("accepted", "ended")
    }
    return [
        Check(label="no error", cases=len(answers), passed=len(made), failures=errors),
        Check(label="one version per request", cases=len(made), passed=len(made) - len(mixed), failures=mixed),
        Check(
            label="its pictures are those of the version that it names",
            cases=NUM_IMAGES * len(made),
            passed=NUM_IMAGES * len(made) - len(other),
            failures=other,
        ),
        Check(
            label="asked after a switch, made by the new version",
            cases=len(made),
            passed=len(made) - len(late),
            failures=late,
        ),
        Check(
            label=f"every server switched within {MOST_S:g} s",
            cases=len(waits["accepted"]),
            passed=sum(wait <= MOST_S for wait in waits["accepted"]),
            note=f"a request for the new version was accepted at most {max(waits['accepted']):.2f} s after the reply to "
            f"the switch, its pictures were there after at most {max(waits['ended']):.1f} s",
        ),
        Check(label="every worker made pictures", cases=2, passed=len(workers), note=", ".join(sorted(workers))),
    ]


def _seconds_until(made: list[Answer], switch: Switch, replica: int, what: str) -> float:
    """From the reply to a switch to the first request afterwards that the server had the new version answer."""
    times = [
        getattr(each, what)
        for each in made
        if each.replica == replica and each.begun > switch.ended and each.digests == {switch.digest}
    ]
    return min(times, default=float("inf")) - switch.ended
