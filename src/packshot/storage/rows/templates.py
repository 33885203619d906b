"""Record ↔ row for scene templates."""

import json
from dataclasses import asdict
from typing import Any

from packshot.domain.templates import Scene, Template
from packshot.domain.variables import Variable, VariableKind
from packshot.storage.rows.values import Row, text_to_time, time_to_text


def template_to_row(template: Template) -> Row:
    """The scene becomes JSON."""
    return {
        **vars(template),
        "scene": json.dumps(asdict(template.scene)),
        "created_at": time_to_text(template.created_at),
    }


def template_from_row(row: Row) -> Template:
    """The inverse of ``template_to_row``."""
    scene: dict[str, Any] = json.loads(row["scene"])
    variables = tuple(_variable(each) for each in scene.pop("variables"))
    return Template(
        id=row["id"],
        namespace=row["namespace"],
        name=row["name"],
        version=row["version"],
        scene=Scene(**scene, variables=variables),
        created_at=text_to_time(row["created_at"]),
    )


def _variable(entry: dict[str, Any]) -> Variable:
    return Variable(**{**entry, "kind": VariableKind(entry["kind"]), "choices": tuple(entry["choices"])})
