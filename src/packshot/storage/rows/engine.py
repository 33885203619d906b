"""Record ↔ row for what the engines of workers have done."""

import json
from dataclasses import asdict

from packshot.domain.engine_work import Distribution, EngineTotals, EngineWork
from packshot.storage.rows.values import Row, text_to_time, time_to_text


def engine_work_to_row(work: EngineWork) -> Row:
    """The totals become JSON."""
    return {**vars(work), "totals": json.dumps(asdict(work.totals)), "created_at": time_to_text(work.created_at)}


def engine_work_from_row(row: Row) -> EngineWork:
    """The inverse of ``engine_work_to_row``."""
    totals = json.loads(row["totals"])
    parts = {
        name: Distribution(counts=tuple(each["counts"]), total=each["total"])
        for name, each in totals.items()
        if isinstance(each, dict)
    }
    return EngineWork(
        id=row["id"],
        totals=EngineTotals(**{**totals, **parts}),
        created_at=text_to_time(row["created_at"]),
    )
