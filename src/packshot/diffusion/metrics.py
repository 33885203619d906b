"""One row of figures per training step, in a file that survives the process. Does not know what they measure."""

import json
from pathlib import Path

from packshot.diffusion.durable import append_line, sync_file, write_file
from packshot.domain.errors import WorkspaceUnusable


class MetricsLog:
    """``metrics.jsonl``: row i belongs to step i + 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, float]] = []

    def resume(self, num_steps: int) -> None:
        """Keep the rows of the first ``num_steps`` steps; what a lost process wrote after them goes.

        Raises:
            WorkspaceUnusable: the file holds fewer rows than steps were done, or cannot be written.
        """
        lines = self._path.read_text().splitlines()[:num_steps] if self._path.exists() else []
        if len(lines) < num_steps:
            raise WorkspaceUnusable(
                f"{self._path} has {len(lines)} rows for {num_steps} steps, so this run cannot go on; train anew"
            )
        self.rows = [json.loads(line) for line in lines]
        write_file(self._path, "".join(line + "\n" for line in lines).encode())

    def append(self, row: dict[str, float]) -> None:
        """Add the row of the next step."""
        self.rows.append(row)
        append_line(self._path, json.dumps(row))

    def sync(self) -> None:
        """See that all rows are on the disk: before the checkpoint that counts on them."""
        sync_file(self._path)
