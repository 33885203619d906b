"""``packshot serve`` as a process: the guide of the API word for word, and an end that loses nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest
from fixtures_pipelines import save_pipeline
from shell import QUICK, THREADS, prepare

from packshot import Client
from packshot.domain.jobs import Job
from packshot.storage.records import SqlRecords

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide" / "api.md"
PAUSE = threading.Event()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models") / "base")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def script_of(guide: str) -> str:
    """The guide's commands as one script; only the length of the training is another."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    quick = ", ".join(f'"{key}": {value}' for key, value in (setting.split("=") for setting in QUICK))
    script = "\n".join(code if kind == "sh" else f"python3 - <<'END'\n{code}END\n" for kind, code in blocks)
    assert script.count('"steps": 200') == 1
    return script.replace('"steps": 200', f'"steps": 3, {quick}')


def test_every_command_of_the_guide_runs(base, tmp_path):
    (tmp_path / "out").mkdir()
    env = {
        **os.environ,
        **THREADS,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PACKSHOT_HOME": str(tmp_path / "workspace"),
        "TMPDIR": str(tmp_path / "out"),
        "BASE": str(base),
        "PORT": str(free_port()),
    }
    script = script_of(GUIDE.read_text(encoding="utf-8"))
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # where the server logs, in the middle of what others print
        text=True,
        start_new_session=True,
    )
    try:
        output, logged = shell.communicate()
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output + logged
    pictures = sorted(file.name for file in (tmp_path / "out").rglob("*.png") if file.read_bytes()[:4] == b"\x89PNG")
    (by_command,) = [name for name in pictures if name.startswith("img_")]
    assert pictures == ["client-0.png", "client-1.png", "curl.png", by_command, "openai.png"]
    assert "\nsucceeded \n" in output
    assert output.count("data: {") >= 2
    assert logged.rstrip().endswith("stopped")


def test_a_server_that_is_stopped_keeps_what_its_workers_did(shell, serve, base, tmp_path):
    prepare(shell, tmp_path)
    shell("base", "add", base)
    server = serve("--dev")
    with Client(server.url) as client:
        config = dict(setting.split("=") for setting in QUICK)
        training = client.train("sks_fuji_apple", base=str(base), **{**config, "steps": 100_000})
        while not list((shell.home / "runs").rglob("step-*")):
            assert server.process.poll() is None
            PAUSE.wait(0.05)
    assert server.stop(signal.SIGTERM) == 0, server.said
    assert server.said.endswith("stopped\n")
    with SqlRecords.open(shell.home / "packshot.db") as records:
        (job,) = records.find(Job)
    assert (job.subject_id, job.status, job.failures) == (training.id, "queued", 0)
    assert list((shell.home / "runs" / training.id).rglob("step-*"))


def test_without_development_mode_and_key_nobody_is_answered(shell, serve):
    url = serve("--workers", "0").url
    assert httpx2.get(f"{url}/v1/categories").status_code == 401
    secret = shell("key", "create", "shop", "--scope", "read").out.strip()
    assert httpx2.get(f"{url}/v1/categories", headers={"Authorization": f"Bearer {secret}"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_development_mode_listens_on_this_machine_alone(shell, host):
    assert "--dev answers without a key" in shell("serve", "--dev", "--host", host, "--port", "0", code=2).err


def test_an_address_that_cannot_be_had_is_wrong_usage(shell):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot listen on 127.0.0.1" in shell("serve", "--port", port, code=2).err
    assert "cannot listen on 192.0.2.1" in shell("serve", "--host", "192.0.2.1", "--port", "0", code=2).err


def test_a_workspace_is_needed(shell, tmp_path):
    elsewhere = type(shell)(tmp_path / "none", {**shell.env, "PACKSHOT_HOME": str(tmp_path / "none")})
    assert "packshot init" in elsewhere("serve", "--port", "0", code=1).err
