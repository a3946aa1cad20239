"""What an evaluation is asked for, and the checks that need no picture."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar

from cluster.job import EngineSettings
from jobs.outputs import refuse_existing
from sr_core.errors import SpecError
from sr_core.shrink import Degradation

_Choice = TypeVar("_Choice", bound=StrEnum)

REFERENCE = "bicubic"


class Protocol(StrEnum):
    """How pictures become numbers.

    RGB: as the papers of networks do. The truth is shrunk in R'G'B' and rounded to 8 bits, and so is what the
    model makes of that; luma is taken of both in floats. Y: as the older papers do, for models of luma alone.
    Luma is taken of the truth and rounded to 8 bits, shrunk and enlarged in floats, and rounded once.
    """

    RGB = "rgb"
    Y = "y"


@dataclass(frozen=True)
class Request:
    """What is asked of an evaluation.

    Attributes:
        models: Names or weights files; bicubic comes before them in any case.
        data: Folders, `HR:LR` pairs of folders, images or videos, as they were typed.
        scale: HR size / LR size.
        protocol: How pictures become numbers.
        degradation: How LR frames are made where none are given.
        lpips: Files with the features and the heads of LPIPS; None leaves it out.
        num_frames: Of each video, from its start; None takes all.
        json_path: Where the figures go, beside the table.
        plot_path: Where a picture of crops side by side goes.
        overwrite: Whether files that stand there are replaced.
        device: Where networks run; `auto` takes a GPU where there is one.
        engine: How networks run.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    scale: int
    protocol: Protocol = Protocol.RGB
    degradation: Degradation = Degradation.BICUBIC
    lpips: tuple[Path, Path] | None = None
    num_frames: int | None = None
    json_path: Path | None = None
    plot_path: Path | None = None
    overwrite: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: EngineSettings = field(default_factory=EngineSettings)

    def check(self) -> None:
        """Refuse what cannot be done before anything is loaded.

        Raises:
            SpecError: A file cannot be written there, or something stands there already, or two wishes
                contradict each other.
        """
        if self.protocol is Protocol.Y and (self.degradation is not Degradation.BICUBIC or self.lpips):
            raise SpecError(
                "the y protocol measures luma that was shrunk by bicubic",
                where="--protocol y",
                got="--lpips" if self.lpips else f"--degradation {self.degradation}",
                next_step="leave out one of the two",
            )
        for flag, path in (("--json", self.json_path), ("--plot", self.plot_path)):
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise SpecError("no file can be written there", where=flag, got=str(path))
        if self.plot_path is not None and self.plot_path.suffix.lower() != ".png":
            raise SpecError("the plot is a PNG", where="--plot", got=str(self.plot_path), expected="….png")
        wanted = [path for path in (self.json_path, self.plot_path) if path is not None]
        refuse_existing(wanted, overwrite=self.overwrite)


def choice(text: str, kind: type[_Choice], flag: str) -> _Choice:
    """The member of `kind` that a flag names.

    Raises:
        SpecError: It names none.
    """
    choices = [member.value for member in kind]
    if text in choices:
        return kind(text)
    near = difflib.get_close_matches(text, choices, n=1)
    raise SpecError(
        "there is no such choice",
        where=flag,
        got=text,
        expected=", ".join(choices),
        next_step=f"did you mean {near[0]!r}?" if near else "",
    )
