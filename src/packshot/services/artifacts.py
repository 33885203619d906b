"""The stored weights of a fine-tune: read and checked when they are taken into use, out of service where damaged."""

import logging

from packshot.domain.catalog import Category
from packshot.domain.errors import CorruptArtifact, FineTuneQuarantined, NotFound
from packshot.domain.models import AliasAction, AliasEvent, FineTune, is_quarantined
from packshot.ports import Blobs, LoadedFineTune, Records
from packshot.services.models import append_event
from packshot.services.training import WEIGHTS

_log = logging.getLogger("packshot.artifacts")


def load_fine_tune(records: Records, blobs: Blobs, fine_tune: FineTune) -> LoadedFineTune:
    """``fine_tune`` with its weights, which nobody reads before they are taken into use.

    Its ``read`` checks the digest of the stored bytes each time, and raises FineTuneQuarantined where they are not the
    ones that were published, or gone: the version that served before it serves from then on.
    """
    sha256 = fine_tune.artifact(WEIGHTS).sha256

    def read() -> bytes:
        try:
            return blobs.get(sha256)
        except (CorruptArtifact, NotFound) as error:
            name = quarantine(records, fine_tune, str(error))
            raise FineTuneQuarantined(
                f"{error}; {name} is out of service until it is promoted again, and what served before it serves"
            ) from error

    return LoadedFineTune(record=fine_tune, sha256=sha256, read=read)


def quarantine(records: Records, fine_tune: FineTune, reason: str) -> str:
    """Take a damaged ``fine_tune`` out of service, with the ``reason`` in its category's history; returns its name.

    Nothing is recorded where it is quarantined already.
    """
    category = records.get(Category, fine_tune.category_id)
    name = f"{category.path}@{fine_tune.version}"
    with records.transaction():
        if is_quarantined(fine_tune.id, records.find(AliasEvent, category_id=category.id)):
            return name
        append_event(records, category.id, fine_tune.id, AliasAction.QUARANTINE, reason)
    facts = {"namespace": category.namespace, "category": category.path, "version": fine_tune.version}
    _log.error("quarantined %s: %s", name, reason, extra=facts)
    return name
