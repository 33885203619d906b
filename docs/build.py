"""Writes the generated reference pages, and the outputs in the guide, from the program itself.

``--check`` fails where a page is out of date.
"""

import dataclasses
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import typer.main
from benchmarks_page import benchmarks_page
from methods_page import methods_page
from transcripts import same, transcribed

from packshot.bootstrap import create_workspace
from packshot.cli import app
from packshot.domain.presets import SMALL_RESOLUTION, parse_config
from packshot.domain.training import TrainingConfig
from packshot.settings import Settings
from packshot.web.app import create_app
from packshot.web.problems import PREFIX, problem_kinds, slug_of, status_of

REFERENCE = Path(__file__).parent / "reference"
GUIDE = Path(__file__).parent / "guide"
TRANSCRIPTS = ("curation.md",)  # pages of the guide whose commands need no model
NOTE = "<!-- Written by docs/build.py; change the program and run it again. -->"


def command_line() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    lines = ["# Command line", "", NOTE, "", "Exit codes: 0 done, 1 failed, 2 wrong usage. `--json` prints JSON.", ""]
    for path, command in _commands("packshot", root):
        lines += [f"## {path}", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            names = ", ".join(parameter.opts + parameter.secondary_opts) if parameter.opts else parameter.name
            about = (getattr(parameter, "help", "") or "").strip()
            if isinstance(parameter, click.Argument) or parameter.param_type_name == "argument":
                names = (parameter.metavar or parameter.name or "").upper()
            lines.append(f"- `{names}` {about}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _commands(path: str, command: click.Command) -> list[tuple[str, click.Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    return [each for name in sorted(children) for each in _commands(f"{path} {name}", children[name])]


def settings() -> str:
    """Every environment variable."""
    lines = ["# Settings", "", NOTE, "", "| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `PACKSHOT_{name.upper()}` | `{field.default}` | {field.description} |")
    return "\n".join([*lines, ""])


def configuration() -> str:
    """Every training configuration key, with its default on a base of at most 256 pixels."""
    about, default = _field_docs(), parse_config({}, base_resolution=SMALL_RESOLUTION)
    lines = ["# Training configuration", "", NOTE, ""]
    lines += ["Give values in a YAML file (`--config`) or one by one (`--set key=value`).", ""]
    lines += ["| key | default on small bases | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(TrainingConfig):
        lines.append(f"| `{field.name}` | `{getattr(default, field.name)}` | {about[field.name]} |")
    return "\n".join([*lines, ""])


def _field_docs() -> dict[str, str]:
    """The ``Attributes:`` section of the configuration's docstring."""
    text = (TrainingConfig.__doc__ or "").split("Attributes:")[1]
    entries: dict[str, str] = {}
    for line in text.strip().splitlines():
        name, colon, about = line.strip().partition(": ")
        if colon and name.isidentifier():
            entries[name] = about
        else:
            entries[next(reversed(entries))] += f" {line.strip()}"
    return entries


def api() -> str:
    """The OpenAPI document."""
    with TemporaryDirectory() as folder, create_workspace(Settings(home=Path(folder))) as space:
        return json.dumps(create_app(space).openapi(), indent=1, ensure_ascii=False) + "\n"


def problems() -> str:
    """Every problem type of the API."""
    lines = ["# Problems of the HTTP API", "", NOTE, ""]
    lines += [
        "Every error is `application/problem+json` (RFC 9457); `detail` says what, which value and how to mend it."
    ]
    lines += ["", "| type | status | meaning |", "|---|---|---|"]
    for kind in problem_kinds():
        lines.append(f"| `{PREFIX}{slug_of(kind)}` | {status_of(kind)} | {(kind.__doc__ or '').strip()} |")
    lines += [
        f"| `{PREFIX}malformed-request` | 400, 422 | The request does not have the documented form; see `fields`. |",
        f"| `{PREFIX}method-not-allowed` | 405 | The path does not know the method. |",
        f"| `{PREFIX}body-too-large` | 413 | More bytes than are read. |",
        f"| `{PREFIX}internal-error` | 500 | The server failed; its log has the cause under the request id. |",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the pages, or check them."""
    pages = {
        REFERENCE / "cli.md": command_line(),
        REFERENCE / "settings.md": settings(),
        REFERENCE / "configuration.md": configuration(),
        REFERENCE / "openapi.json": api(),
        REFERENCE / "problems.md": problems(),
        GUIDE / "benchmarks.md": benchmarks_page(),
        GUIDE / "methods.md": methods_page(),
        **{GUIDE / name: transcribed((GUIDE / name).read_text(encoding="utf-8")) for name in TRANSCRIPTS},
    }
    stale = [path for path, text in pages.items() if not _same(path, text)]
    if "--check" in sys.argv:
        if stale:
            sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run: python docs/build.py")
        return
    REFERENCE.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
        print(f"wrote {path}")


def _same(path: Path, text: str) -> bool:
    return path.is_file() and same(path.read_text(encoding="utf-8"), text)


if __name__ == "__main__":
    main()
