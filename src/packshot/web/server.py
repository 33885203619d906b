"""Runs the API with uvicorn until it is told to stop. Does not know what is served."""

import socket
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from packshot.domain.errors import InvalidInput

SHUTDOWN_S = 5


def listen(host: str, port: int, *, dev: bool) -> socket.socket:
    """A socket that listens; port 0 = any free one.

    Raises:
        InvalidInput: the address is taken or not this machine's; or not a loopback one in development mode.
    """
    if dev and not _is_loopback(host):
        raise InvalidInput(f"--dev answers without a key, so it listens on this machine alone and not on {host!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise InvalidInput(f"cannot listen on {host}:{port} ({error}); choose others with --host and --port") from error


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; open requests are finished first, for at most SHUTDOWN_S seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
