"""The README's tables are what the code does."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from cluster.images.info import IMAGE_SUFFIXES
from cluster.video.defaults import Default, defaults_table
from jobs.flags import FLAGS

README = (Path(__file__).parents[1] / "README.md").read_text()


def footage_lines() -> list[str]:
    """One line for each container: its sources, and the codec and samples for each kind of footage."""
    rows = [list(row) for _, row in groupby(defaults_table(), lambda default: default.container)]
    heads = ["output", "sources", *(default.footage for default in rows[0])]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for row in rows:
        sources = " ".join(f"`{suffix}`" for suffix in row[0].suffixes)
        cells = [f"{default.codec} {default.pixel_format}" for default in row]
        lines.append("| " + " | ".join([row[0].container, sources, *cells]) + " |")
    return lines


def codec_lines() -> list[str]:
    """One line for each codec that is chosen by default: its preset and its quality."""
    known: dict[str, Default] = {default.codec: default for default in defaults_table()}
    lines = ["| codec | preset | quality |", "| --- | --- | --- |"]
    for codec in sorted(known):
        preset, quality = known[codec].preset, known[codec].quality
        quality_text = "its own" if quality is None else f"CRF {quality:g}"
        lines.append(f"| {codec} | {preset or 'its own'} | {quality_text} |")
    return lines


def test_the_table_of_footage_is_what_is_chosen() -> None:
    assert "\n".join(footage_lines()) in README


def test_the_table_of_codecs_is_what_is_chosen() -> None:
    assert "\n".join(codec_lines()) in README


def test_every_image_suffix_is_named() -> None:
    assert [suffix for suffix in IMAGE_SUFFIXES if f"`{suffix}`" not in README] == []


def test_every_flag_is_named_with_its_key() -> None:
    missing = [flag.name for flag in FLAGS if f"`{flag.name}" not in README or f"`{flag.key}`" not in README]
    assert missing == []
