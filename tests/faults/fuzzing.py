"""Fault test 28: requests drawn from the OpenAPI document, good and bad, to every route of a server in this process."""

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from api import IDENTIFIER, PROMPT, Platform, platform_in, worker
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation

from faults.registry import Check, Setting, fault

EXAMPLES, QUICK_EXAMPLES = 50, 3
MALFORMED = "malformed bodies are refused"
CLAIMS = {
    "no server error": ["not_a_server_error"],
    "replies as documented": [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ],
    MALFORMED: ["negative_data_rejection"],
    "no ignored key": ["ignored_auth"],
}


@dataclass
class Tally:
    """How often a claim was tried, and what did not hold."""

    cases: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@fault(28, "fuzzed api", passes="no 5xx, no schema break, no ignored auth")
def fuzzed_api(setting: Setting) -> list[Check]:
    """Good and malformed requests to each route, with ids of nothing and with ids and names of what is there."""
    load_all_checks()
    tally = Tally()
    for platform in platform_in(setting.workdir, requests_per_minute=1_000_000, max_unfinished_jobs=10_000_000):
        there = _one_of_everything(platform)
        schema = schemathesis.openapi.from_asgi("/openapi.json", platform.client.app)
        with worker(platform), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for found in schema.get_all_operations():
                _fuzz(platform, found.ok(), there, setting, tally)
    return [
        Check(
            label=claim,
            cases=tally.cases[claim],
            passed=tally.cases[claim] - len(tally.failures[claim]),
            failures=tally.failures[claim],
        )
        for claim in CLAIMS
    ]


def _one_of_everything(platform: Platform) -> dict[str, Any]:
    """Values for path parameters and for keys of bodies."""
    fine_tune_id = platform.serving()
    fine_tune = platform.call("GET", f"/v1/fine-tunes/{fine_tune_id}")
    made = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    scene = {"background": "on a {surface}", "variables": [{"name": "surface", "kind": "text", "default": "table"}]}
    platform.call("POST", "/v1/templates", json={"name": "summer", **scene}, status=201)
    batch = platform.call("POST", "/v1/batches", json={"categories": [IDENTIFIER], "templates": ["summer"]}, status=202)
    webhook = platform.call("POST", "/v1/webhooks", json={"url": "https://acme.example/"}, status=201)
    platform.work()
    generation = platform.call("GET", made["urls"]["get"])
    return {
        "identifier": IDENTIFIER,
        "category": IDENTIFIER,
        "categories": [IDENTIFIER],
        "template": "summer",
        "templates": ["summer"],
        "prompt": PROMPT,
        "url": "https://acme.example/",
        "fine_tune_id": fine_tune_id,
        "training_id": fine_tune["training_run_id"],
        "evaluation_id": platform.evaluated(fine_tune_id),
        "file_name": "report.json",
        "base_id": fine_tune["base_id"],
        "generation_id": generation["id"],
        "image_id": generation["images"][0]["id"],
        "batch_id": batch["id"],
        "job_id": generation["job_id"],
        "webhook_id": webhook["id"],
    }


def _fuzz(platform: Platform, operation: APIOperation, there: dict[str, Any], setting: Setting, tally: Tally) -> None:
    named = {each.name: there[each.name] for each in operation.path_parameters}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        for path_parameters in ({}, named) if named else ({},):
            if path_parameters and operation.path.endswith("/retire"):
                continue  # it would end the category that the other routes are asked about

            @seed(setting.seed)
            @settings(
                max_examples=QUICK_EXAMPLES if setting.quick else EXAMPLES,
                phases=[Phase.generate],
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(
                operation.as_strategy(generation_mode=mode, path_parameters=path_parameters or None),
                st.sets(st.sampled_from(sorted(there))),
            )
            def ask(case: schemathesis.Case, settled: set[str]) -> None:
                if isinstance(case.body, dict) and case.meta.generation.mode.is_positive:
                    case.body = {key: there[key] if key in settled else value for key, value in case.body.items()}
                _ask(platform, case, tally)

            ask()


def _ask(platform: Platform, case: schemathesis.Case, tally: Tally) -> None:
    headers = platform.key("admin")
    reply = case.call(headers=headers)
    for claim, names in CLAIMS.items():
        if claim == MALFORMED and not isinstance(case.body, dict | list | str):
            continue  # a query or header that the document does not name is no fault of a request
        tally.cases[claim] += 1
        try:
            case.validate_response(reply, headers=headers, checks=[CHECKS.get_one(name) for name in names])
        except FailureGroup as failures:
            told = "; ".join(f"{each.title}: {each.message}" for each in failures.exceptions)
            tally.failures[claim].append(f"{case.as_curl_command()}\n{told}")
