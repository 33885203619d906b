"""Checkpoints of one run: whole or absent, the newest whole one counts. Does not know what the tensors mean."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from packshot.diffusion.durable import TEMPORARY, write_folder
from packshot.domain.errors import Conflict

_STATE, _ABOUT = "state.safetensors", "checkpoint.json"


class Checkpoints:
    """Folders ``step-00000050`` in ``folder``. ``run_digest`` names the training that they belong to."""

    def __init__(self, folder: Path, run_digest: str) -> None:
        self._folder = folder
        self._run_digest = run_digest

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the checkpoint of ``step``; earlier ones go once it is verified and in place.

        Raises:
            WorkspaceUnusable: it cannot be written; earlier checkpoints stay.
        """
        state = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        about = {"step": step, "run_digest": self._run_digest, "state_sha256": hashlib.sha256(state).hexdigest()}
        target = self._path(step)
        if target.exists() and self._read(target) is None:
            shutil.rmtree(target)
        write_folder(target, {_STATE: state, _ABOUT: json.dumps(about).encode()})
        for path in self._folder.iterdir():
            if path != target and (path.name.startswith(TEMPORARY) or path in self._all()):
                shutil.rmtree(path, ignore_errors=True)

    def newest(self) -> tuple[int, dict[str, Tensor]] | None:
        """Step and tensors of the newest whole checkpoint, or None. Torn ones are passed over.

        Raises:
            Conflict: the folder holds the checkpoints of another training.
        """
        for path in reversed(self._all()):
            found = self._read(path)
            if found is not None:
                return found
        return None

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("step-*")) if self._folder.is_dir() else []

    def _read(self, path: Path) -> tuple[int, dict[str, Tensor]] | None:
        try:
            about = json.loads((path / _ABOUT).read_bytes())
            state = (path / _STATE).read_bytes()
            run_digest, step = about["run_digest"], int(about["step"])
            whole = hashlib.sha256(state).hexdigest() == about["state_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not whole:
            return None
        if run_digest != self._run_digest:
            raise Conflict(
                f"{self._folder} holds checkpoints of another training (other base, photos or configuration); "
                "give this one a folder of its own"
            )
        return step, load(state)
