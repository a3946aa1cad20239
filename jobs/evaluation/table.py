"""The figures of an evaluation as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from jobs.evaluation.record import Record
from jobs.view import console, printable

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def print_table(records: Sequence[Record], told: Sequence[str]) -> None:
    """Prints a row for each record, with a column for every figure that any of them has.

    Args:
        told: What must be known of the data, a sentence each; printed below.
    """
    shown = [column for column in _COLUMNS if any(column[1](record) for record in records)]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("data")
    table.add_column("model")
    for name, _ in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        cells = (printable(record.data), printable(record.model), *(text(record) for _, text in shown))
        table.add_row(*(Text(cell) for cell in cells))
    to = console()
    to.print(table)
    to.print(Text(_conditions(records)))
    for sentence in told:
        to.print(Text(f"note: {printable(sentence)}"))


def _conditions(records: Sequence[Record]) -> str:
    environment, scale = records[-1].environment, records[-1].scale
    lr_made = ", ".join(dict.fromkeys(record.degradation for record in records))
    made = "8-bit luma" if environment.protocol == "y" else "8-bit RGB"
    return (
        f"x{scale}, {made}, LR frames: {lr_made}; {scale} px of border left out; MACs for 1280x720; "
        f"time per megapixel of output on {environment.device}"
    )


def _fixed(value: float | None, num_digits: int) -> str:
    return "" if value is None else f"{value:.{num_digits}f}"


def _counted(value: int | None) -> str:
    if not value:
        return "" if value is None else "0"
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.4g} {letter}"
    return str(value)


def _moved(record: Record) -> str:
    if record.warping_error is None or record.warping_error_of_truth is None:
        return ""
    return f"{record.warping_error:.2e} ({record.warping_error_of_truth:.2e})"


_COLUMNS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("PSNR-Y dB", lambda record: _fixed(record.psnr_y, 3)),
    ("SSIM-Y", lambda record: _fixed(record.ssim_y, 4)),
    ("PSNR-RGB dB", lambda record: _fixed(record.psnr_rgb, 3)),
    ("LPIPS", lambda record: _fixed(record.lpips, 4)),
    ("consistency dB", lambda record: _fixed(record.consistency, 2)),
    ("warping error (truth's)", _moved),
    ("parameters", lambda record: _counted(record.parameters)),
    ("MACs", lambda record: _counted(record.macs)),
    ("s/MP", lambda record: _fixed(record.seconds_per_megapixel, 3)),
    ("precision", lambda record: record.environment.precision),
)
