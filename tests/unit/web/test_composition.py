"""Pictures of several subjects over HTTP."""

import pytest
from api import IDENTIFIER, worker

from packshot import Client
from packshot.domain.composition import Box
from packshot.domain.errors import InvalidComposition
from packshot.domain.generation import Generation
from packshot.services.catalog import add_category
from packshot.services.models import fine_tune_at, promote

OTHER = "acme_gala_apple"
PROMPT = f"{IDENTIFIER} next to {OTHER} in a basket"
BOXES = [(0.5, 0.0, 1.0, 1.0), (0.0, 0.25, 0.5, 1.0)]


@pytest.fixture
def served(platform):
    """A server on which two categories are served."""
    platform.serving()
    add_category(platform.space.records, path="apple/gala", class_noun="apple", namespace="acme")
    platform.call("POST", f"/v1/categories/{OTHER}/references", files=platform.photos(start=20), status=201)
    platform.call("POST", f"/v1/categories/{OTHER}/references/freeze", status=201)
    platform.call("POST", "/v1/trainings", json={"category": OTHER, "config": {"steps": 3}}, status=202)
    platform.work()
    promote(platform.space.records, fine_tune_at(platform.space.records, "apple/gala", "acme"), reason="a test")
    return platform


def test_two_identifiers_are_composed_in_boxes_or_in_columns(served):
    asked = served.call("POST", "/v1/generations", json={"prompt": PROMPT, "boxes": BOXES}, status=202)
    assert asked["fine_tune_id"] is None
    assert [Box(**each["box"]).edges for each in asked["subjects"]] == BOXES
    assert all("in a basket" in each["resolved_prompt"] for each in asked["subjects"])
    plain = served.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    assert [each["box"]["left"] for each in plain["subjects"]] == [0.0, 0.5]
    served.work()
    done = served.call("GET", asked["urls"]["get"])
    assert len(done["images"]) == 1
    lineage = served.call("GET", f"{done['images'][0]['url']}/lineage")
    assert [each["category"]["identifier"] for each in lineage["subjects"]] == [IDENTIFIER, OTHER]
    assert [each.box.edges for each in served.space.generator.subjects[:2]] == BOXES


@pytest.mark.parametrize(
    ("boxes", "type_"),
    [
        ([[0, 0, 1, 1]], "invalid-composition"),
        ([[0, 0, 0.6, 1], [0.5, 0, 1, 1]], "invalid-composition"),
        ([[0, 0, 0.5, 1], [0.5, 0, 1.5, 1]], "invalid-composition"),
        ([[0, 0, 0.5], [0.5, 0, 1, 1]], "malformed-request"),
    ],
    ids=str,
)
def test_boxes_that_do_not_fit_are_refused_before_anything_is_queued(served, boxes, type_):
    refused = served.call("POST", "/v1/generations", json={"prompt": PROMPT, "boxes": boxes}, status=422)
    assert refused["type"] == f"/problems/{type_}"
    assert served.space.records.find(Generation) == []


def test_the_client_places_subjects(served):
    client = Client(key=served.keys["acme", "admin"], http=served.client)
    with worker(served):
        assert len(client.generate(PROMPT, boxes=BOXES, num_images=2, poll_s=0.01)) == 2
    (made,) = served.space.records.find(Generation)
    assert [each.box.edges for each in made.subjects] == BOXES
    with pytest.raises(InvalidComposition):
        client.start_generation(PROMPT, boxes=BOXES[:1])
