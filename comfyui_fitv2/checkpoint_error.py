"""The one error for files that are not usable checkpoints."""

from __future__ import annotations

from pathlib import Path

DOWNLOAD_AGAIN = "Download or copy it again, and compare its size with the source."


class CheckpointError(ValueError):
    """A file that is not a usable FiTv2 checkpoint.

    The message names the file, and says what it is and what to do.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what
