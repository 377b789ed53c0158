# SPDX-License-Identifier: Apache-2.0
"""A directory with what operators ask of it, as one object: both sides of what a server keeps apart."""

from __future__ import annotations

from typing import Any

from directory_service.service import Directory


class WholeDirectory(Directory):
    """A Directory that does its editor's work too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "editor":
            raise AttributeError(name)
        return getattr(self.editor, name)
