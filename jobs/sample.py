"""`framelift sample`: a short clip to try things on."""

from __future__ import annotations

from pathlib import Path

from sr_core.errors import SpecError, StorageError

# Made by cluster.video.sample.write_sample.
SAMPLE = Path(__file__).parent / "examples" / "sample.mp4"


def sample(path: Path) -> int:
    """Writes the sample clip to `path`, or into it where it is a folder, and says where.

    Raises:
        SpecError: Something stands there already.
        StorageError: It cannot be written there.
    """
    target = path / SAMPLE.name if path.is_dir() else path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(SAMPLE.read_bytes())
    except FileExistsError as error:
        raise SpecError(
            "a file stands there already", where=str(target), next_step="give another path"
        ) from error
    except OSError as error:
        raise StorageError("the sample cannot be written", where=str(target), got=str(error)) from error
    print(f"{target}: 3 s of 320x180 at 24 fps, with sound")
    return 0
