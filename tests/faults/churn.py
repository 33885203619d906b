"""Fault test 14: more categories than there is room for, many clients at once, versions that change under them."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from faults.catalogs import QUICK_SAMPLING, Catalog, Product, differs, digest_of, told_digest
from faults.registry import Check, Setting, fault
from packshot import Engine
from packshot.bootstrap import create_workspace
from packshot.domain.errors import Interrupted, NothingServing
from packshot.domain.generation import Generation, SamplingSettings
from packshot.domain.models import FineTune
from packshot.engine import Picture
from packshot.services.artifacts import load_fine_tune
from packshot.services.jobs import no_report
from packshot.services.models import promote, roll_back
from packshot.settings import Settings

RANKS_PER_SLOT = 2  # every adapter here has that rank
CANCELED = 0.05  # of the requests, beside those that are counted
PAUSE_S = 0.05  # between two switches


@fault(14, "churn", passes="every output equals its serial reference; every reply names the version digest it used")
def churn(setting: Setting) -> list[Check]:
    """Nothing is kept in memory but what has a slot, so that every request may load, and let another be evicted."""
    num_products, num_slots, num_clients, num_requests = (10, 2, 8, 120) if setting.quick else (50, 8, 64, 10_000)
    settings = Settings(
        home=setting.workdir / "workspace", adapter_ranks=RANKS_PER_SLOT * num_slots, adapter_cache_mib=0
    )
    with create_workspace(settings) as space, Engine(space) as engine:
        catalog = Catalog(space, num_products)
        alone = {
            digest_of(version): space.generator.generate(
                catalog.base,
                load_fine_tune(space.records, space.blobs, version),
                [product.prompt.replace(product.category.identifier, version.trained_phrase)],
                sampling_of(number),
                report=no_report,
            )[0]
            for number, product in enumerate(catalog.products)
            for version in product.versions
        }
        assert len(set(alone.values())) == 2 * num_products
        over, counts = threading.Event(), Counter[str]()
        switcher = threading.Thread(target=_switch, args=(catalog, setting.seed, over, counts))
        switcher.start()
        try:
            with ThreadPoolExecutor(num_clients) as clients:
                shares = [range(client, num_requests, num_clients) for client in range(num_clients)]
                told = clients.map(lambda share: _ask(engine, catalog, alone, share, setting.seed, counts), shares)
                found = [each for answers in told for each in answers]
        finally:
            over.set()
            switcher.join()
    note = f"{num_products} categories, {num_slots} slots, {num_clients} clients, {counts['switches']} switches, "
    note += f"{counts['canceled']} more requests canceled, largest difference {counts['difference']} grey levels"
    return [
        _check("equal to the same request alone", [picture for picture, _ in found], note),
        _check("names the version that made it", [digest for _, digest in found]),
    ]


def _check(label: str, outcomes: list[str], note: str = "") -> Check:
    failures = [each for each in outcomes if each]
    return Check(label=label, cases=len(outcomes), passed=len(outcomes) - len(failures), failures=failures, note=note)


def sampling_of(number: int) -> SamplingSettings:
    """Another number of steps and seed for each category."""
    return replace(QUICK_SAMPLING, seed=number, inference_steps=1 + number % 4)


def _switch(catalog: Catalog, seed: int, over: threading.Event, counts: Counter[str]) -> None:
    chance, records = random.Random(f"switches {seed}"), catalog.space.records
    while not over.wait(PAUSE_S):
        product = chance.choice(catalog.products)
        with suppress(NothingServing):  # nothing to roll back to
            if chance.random() < 0.5:
                promote(records, chance.choice(product.versions), reason="a test")
            else:
                roll_back(records, product.category)
            counts["switches"] += 1


def _ask(
    engine: Engine, catalog: Catalog, alone: dict[str, bytes], share: range, seed: int, counts: Counter[str]
) -> list[tuple[str, str]]:
    """A client's requests, one after the other; what is wrong with the picture and with its digest, for each."""
    found: list[tuple[str, str]] = []
    for request in share:
        chance = random.Random(f"{request} {seed}")
        number = chance.randrange(len(catalog.products))
        product = catalog.products[number]
        if chance.random() < CANCELED:
            canceled = engine.submit(product.prompt, sampling_of(number))
            canceled.cancel()
            with suppress(Interrupted):
                canceled.result()
            counts["canceled"] += 1
        try:
            (picture,) = engine.submit(product.prompt, sampling_of(number)).result()
        except Exception as error:  # noqa: BLE001 whatever a caller sees is a finding
            found.append((f"request {request}: {type(error).__name__}: {error}",) * 2)
            continue
        found.append(_judged(catalog, product, picture, alone, request, counts))
    return found


def _judged(
    catalog: Catalog, product: Product, picture: Picture, alone: dict[str, bytes], request: int, counts: Counter[str]
) -> tuple[str, str]:
    records, told = catalog.space.records, told_digest(picture.png)
    generation = records.get(Generation, picture.image.generation_id)
    used = digest_of(records.get(FineTune, generation.fine_tune_id or ""))
    difference = differs(picture.png, alone[used])
    counts["difference"] = max(counts["difference"], difference)
    what = f"request {request} for {product.category.path}, made by {used[:8]}"
    known = told == used and used in map(digest_of, product.versions)
    return (f"{what}: {difference} grey levels off" if difference > 1 else "", "" if known else f"{what}: says {told}")
