"""Which frames refer to packets that were lost, as seen packet by packet. Pure."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

NEAR_FRAMES = 3  # the packet that a demuxer suspects need not be the one beside the gap


class Losses:
    """Follows the packets of one video, which come in decoding order from a keyframe on.

    A loss is a gap in the decoding times beside a packet that the demuxer suspects. What comes behind it
    refers to it, up to the next keyframe; and so does what is decoded after that and displayed before.
    """

    def __init__(self, longest_ticks: Fraction) -> None:
        """Has seen nothing yet.

        Args:
            longest_ticks: Between two packets of which none is lost in between.
        """
        self._longest_ticks = longest_ticks
        self._last_dts: int | None = None
        self._num_since_suspect = NEAR_FRAMES + 1
        self._is_after_loss = False
        self._whole_from_pts: int | None = None

    def hurts(self, packet: av.Packet[Any]) -> bool:
        """Whether the frame of `packet`, the next one, refers to what was lost."""
        self._num_since_suspect = 0 if packet.is_corrupt else self._num_since_suspect + 1
        if self._is_gap(packet) and self._num_since_suspect <= NEAR_FRAMES:
            self._is_after_loss = True
        if packet.is_keyframe:
            self._whole_from_pts = packet.pts if self._is_after_loss else None
            self._is_after_loss = False
            return False
        is_leading = (
            packet.pts is not None and self._whole_from_pts is not None and packet.pts < self._whole_from_pts
        )
        return self._is_after_loss or is_leading

    def _is_gap(self, packet: av.Packet[Any]) -> bool:
        if packet.dts is None:
            return False
        last, self._last_dts = self._last_dts, packet.dts
        return last is not None and packet.dts - last > self._longest_ticks
