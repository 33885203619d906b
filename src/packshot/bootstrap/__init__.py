"""The composition root: the only place where implementations are chosen. Loads torch only when a model is asked for."""

from packshot.bootstrap.launching import follow, launched
from packshot.bootstrap.revision import code_revision
from packshot.bootstrap.workspace import DATABASE, Workspace, create_workspace, open_workspace

__all__ = ["DATABASE", "Workspace", "code_revision", "create_workspace", "follow", "launched", "open_workspace"]
