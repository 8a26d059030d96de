"""What has changed among the images of a latent set, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.sources.listing import counted, some


@dataclass(slots=True)
class Changes:
    """What differs between a plan and the images that there are now: names of files."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    """Images of the same class and another name, by the name that they have now."""
    new_classes: list[str] = field(default_factory=list)
    empty_classes: list[str] = field(default_factory=list)
    """Classes that have lost all of their images."""

    def lines(self) -> list[str]:
        """One line for each kind of change."""
        kinds = {
            "added": self.added,
            "removed": self.removed,
            "replaced": self.replaced,
            "in another class": self.relabelled,
            "renamed": self.renamed,
        }
        said = [f"{_named(files, 'image')} {what}" for what, files in kinds.items() if files]
        if self.new_classes:
            said.append(f"{_named(self.new_classes, 'class')} new")
        if self.empty_classes:
            said.append(
                f"{_named(self.empty_classes, 'class')} without images now; names and class ids "
                "stay, so that runs on this set can resume"
            )
        return said


def _named(names: Sequence[str], noun: str) -> str:
    return f"{counted(len(names), noun)} ({some(names)})"
