"""What every command shares: the workspace, text or JSON on stdout, progress on stderr, interruption."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.domain.errors import InvalidInput, WorkspaceNeeded
from packshot.services.json_text import to_json
from packshot.settings import Settings, read_settings

if TYPE_CHECKING:
    from packshot.bootstrap import Workspace
    from packshot.cli.backend import Backend
    from packshot.ports import Progress
    from packshot.services.audit import Actor

chosen_server: ContextVar[str] = ContextVar("chosen_server", default="")
"""What --server said; empty without it."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _writable(folder: Path) -> Path:
    """Return ``folder`` if files can be written there, so that no work is done in vain; nothing is made yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=there):
            return folder
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"cannot write to {folder} ({error.strerror}); choose another folder with --out")


Out = Annotated[Path, typer.Option(help="The folder where files are written.", callback=_writable)]


def workspace(*, create: bool = False) -> "Workspace":
    """The workspace that the environment names; made where there is none, if ``create``. Close it after use.

    Raises:
        WorkspaceNeeded: the command was sent to a server.
    """
    from packshot.bootstrap import create_workspace, open_workspace

    settings = read_settings()
    if server := _server(settings):
        raise WorkspaceNeeded(
            f"this command works in a workspace of this machine and not on {server}; leave --server out, or unset "
            "PACKSHOT_SERVER"
        )
    return create_workspace(settings) if create else open_workspace(settings)


@contextmanager
def backend() -> "Iterator[Backend]":
    """Where commands work that need no workspace of this machine: on the server that was chosen, or else here.

    Raises:
        InvalidInput: the server is no http or https URL.
    """
    settings = read_settings()
    if server := _server(settings):
        from packshot.cli.remote import RemoteBackend
        from packshot.client import Client

        if not server.startswith(("http://", "https://")):
            raise InvalidInput(f"{server!r} is no address of a server; write one such as http://127.0.0.1:8000")
        with Client(server, settings.api_key or None) as client:
            yield RemoteBackend(client)
    else:
        from packshot.cli.local import LocalBackend

        with workspace() as space:
            yield LocalBackend(space)


def _server(settings: Settings) -> str:
    """The server of --server, or of the settings; empty where commands work here."""
    return chosen_server.get() or settings.server


def operator() -> "Actor":
    """Whoever sits at this machine, for the audit log."""
    import getpass
    import os
    import socket

    from packshot.services.audit import Actor

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        user = f"user {os.getuid()}"
    return Actor(name=f"{user} at {socket.gethostname()}")


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write ``files`` into ``folder``, which is made where it is missing; returns their paths.

    Raises:
        InvalidInput: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return [folder / name for name in files]


def show(value: object, as_json: bool, text: Callable[[], str]) -> None:
    """Print ``value`` as JSON, or ``text()`` for people."""
    print(to_json(value) if as_json else text())


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns; the last one runs on."""
    cells = [[str(heading).upper() for heading in headings], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def duration(seconds: float) -> str:
    """Seconds in words, such as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def say(message: str) -> None:
    """A remark to the person at the terminal: stderr, so that stdout stays data."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress_shown() -> "Iterator[Callable[..., None]]":
    """A live line per phase on stderr, with loss, speed and time left; one line per phase where it is no terminal.

    What is given takes a ``Progress`` and, where several go on at once, what it belongs to: that has one line then.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, tuple[object, str]] = {}

    def report(progress: "Progress", of: str = "") -> None:
        line = f"{of} {progress.phase}".lstrip()
        task, shown = tasks.get(of or line, (None, ""))
        if shown != line:
            if task is None:
                task = bars.add_task(line, total=progress.num_steps, detail="")
            else:
                bars.reset(task, total=progress.num_steps, description=line, detail="")  # type: ignore[arg-type]
            tasks[of or line] = task, line
            if bars.disable:
                say(f"{line} ({progress.num_steps})")
        speed = bars.tasks[task].speed  # type: ignore[index]
        loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
        detail = f"{loss}  {speed:.2f}/s" if speed else loss
        bars.update(task, completed=progress.step, total=progress.num_steps, detail=detail)  # type: ignore[arg-type]

    with bars:
        yield report


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A function that turns true on the first Ctrl-C or SIGTERM; a second one of its kind ends the program at once.

    A launcher of several processes passes one on as the other.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if number in asked:
            raise KeyboardInterrupt
        asked.append(number)
        if len(asked) == 1:
            say("stopping after this step; what was done is kept (press again to end at once)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
