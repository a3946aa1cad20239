"""One pass over the packets of a video: when its frames are shown, and what is seen of them on the way."""

from __future__ import annotations

from array import array
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from cluster.video.clock import BACK_S, GAP_S
from cluster.video.deinterlace import repeats_field
from cluster.video.field_pairs import whole_frames
from cluster.video.frame_times import MOSTLY_MISSING, NOT_IN_DISPLAY_ORDER, FrameTimes
from cluster.video.hollow import Hollowing, WrongIndexError
from cluster.video.repair import may_jump
from cluster.video.source import ErrorNotes, alpha_decoder, limit_decoder, new_decoder, read_packets, reason
from cluster.video.timeline import PtsArray, Timeline

# Interlacing may begin late: frames are looked at again from a keyframe on after this many packets, then
# after twice as many, and so on.
_NUM_LOOKED_AT = 8
_FIRST_LOOK_AGAIN = 64
_NUM_LOOKED_AT_AGAIN = 4
_MAX_PACKETS_WITHOUT_FRAME = 1000
_MAX_REORDERING = 64


class Scan:
    """What one pass over packets has seen: every displayed packet's times, the first frames, some later ones.

    Attributes:
        is_interlaced: A frame that was looked at says so.
        has_repeat_flags: A frame that was looked at says that a field is shown once more.
        is_encrypted: So says a packet; then the pass ends early.
        problem: Why its times need repair, or were repaired; empty if they are good.
        has_gap: The times are ahead once by so much that this may be a jump, which only all streams can tell.
    """

    def __init__(self, stream: Any, hollowing: Hollowing | None = None) -> None:
        """Has seen nothing of `stream` yet.

        Args:
            stream: The video.
            hollowing: Of its packets; None where all are to be read.
        """
        self.pts = array("q")
        self.keyframe_pts = array("q")
        self.num_without_pts = 0
        self.frames: list[VideoFrame] = []
        self.is_interlaced = False
        self.has_repeat_flags = False
        self.is_encrypted = False
        self.problem = ""
        self.has_gap = False
        self.notes = ErrorNotes()
        self._goes_back = False
        self._last_dts: int | None = None
        self._looked_at_again: list[av.Packet[Any]] = []
        self._next_look = _FIRST_LOOK_AGAIN
        self._last_duration = 0
        self._ordered_last: list[int] = []  # the last two pts
        self._stream = stream
        self._hollowing = hollowing
        self._decoder = alpha_decoder(stream) or stream.codec_context
        limit_decoder(self._decoder)

    def read(self, container: InputContainer) -> None:
        """Makes the pass over the packets of `container`, whose stream this is.

        Raises:
            WrongIndexError: Hollow packets do not do; another scan without has to be made.
        """
        packets = whole_frames(read_packets(container, [self._stream], self.notes), self._stream)
        for num_before, packet in enumerate(packets):
            self.is_encrypted = packet.has_sidedata("encryption_info")
            if self.is_encrypted:
                return
            is_keyframe = self._hollowing.is_keyframe(packet) if self._hollowing else packet.is_keyframe
            self._add(packet, is_keyframe)
            self._look_again(packet, is_keyframe, num_before)
            wants_frames = len(self.frames) < _NUM_LOOKED_AT
            if wants_frames and (self.frames or num_before < _MAX_PACKETS_WITHOUT_FRAME):
                self._decode(packet)
                self._be_hollow()
        if len(self.frames) < _NUM_LOOKED_AT:
            self._decode(None)
        self._decode_looked_at_again()
        if self.has_repeat_flags and self._hollowing and self._hollowing.has_begun:
            raise WrongIndexError  # by these flags the demuxer may find how long the last frame is shown
        self.has_gap = self.has_gap and may_jump(container)
        self.problem = self._problem(is_without_pts=container.format.name == "avi")

    @property
    def num_frames(self) -> int:
        """Displayed packets."""
        return len(self.pts) + self.num_without_pts

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """What the container says, or else the frames."""
        return self._stream.sample_aspect_ratio or self._decoder.sample_aspect_ratio or None

    @property
    def start_pts(self) -> int:
        """pts of the first displayed frame."""
        return min(self.pts)

    @property
    def last_pts(self) -> int:
        """pts of the last displayed frame."""
        return self._ordered_last[-1]

    @property
    def end_pts(self) -> int:
        """Where the last frame ends: after what its packet says, or as long as the one before it lasts."""
        gap = self._ordered_last[-1] - self._ordered_last[0]
        return self.last_pts + max(self._last_duration or gap, 1)

    @property
    def end_of_decoding(self) -> int:
        """The last packet's decoding time plus one tick, as the file says it."""
        return 0 if self._last_dts is None else self._last_dts + 1

    def timeline(self) -> Timeline:
        """What was seen, in display order."""
        return Timeline(
            pts=np.sort(np.frombuffer(self.pts, dtype=np.int64)),
            keyframe_pts=np.sort(np.frombuffer(self.keyframe_pts, dtype=np.int64)),
            end_pts=self.end_pts,
            problem=self.problem,
        )

    def replace_times(self, times: FrameTimes, problem: str) -> None:
        """Puts repaired times in the place of those that were seen."""
        self.problem = problem
        self.num_without_pts = 0
        self.pts = array("q", times.pts.tobytes())
        self.keyframe_pts = array("q", times.keyframe_pts.tobytes())
        self._ordered_last = times.pts[-2:].tolist()
        self._last_duration = times.end_pts - self.last_pts

    def _be_hollow(self) -> None:
        """Does without the payload of the packets that follow, once no more frames are wanted of all."""
        if self._hollowing and len(self.frames) >= _NUM_LOOKED_AT:
            self._hollowing.begin()

    def _add(self, packet: av.Packet[Any], is_keyframe: bool) -> None:
        self._compare_dts(packet)
        if packet.is_discard:
            return
        if packet.pts is None:
            self.num_without_pts += 1
            return
        self.pts.append(packet.pts)
        if not self._ordered_last or packet.pts > self._ordered_last[-1]:
            self._last_duration = packet.duration or 0
        self._ordered_last = sorted([*self._ordered_last, packet.pts])[-2:]
        if is_keyframe:
            self.keyframe_pts.append(packet.pts)

    def _decode(self, packet: av.Packet[Any] | None) -> None:
        try:
            frames = self._decoder.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            self.notes.add(f"decoding: {reason(error)}")
            return
        self.frames += frames
        self._look_at(frames)

    def _look_again(self, packet: av.Packet[Any], is_keyframe: bool, num_before: int) -> None:
        if self._looked_at_again or (is_keyframe and num_before >= self._next_look):
            if self._hollowing:
                self._hollowing.fill(packet)
            self._looked_at_again.append(packet)
        if len(self._looked_at_again) == _NUM_LOOKED_AT_AGAIN:
            self._decode_looked_at_again()
            while self._next_look <= num_before:
                self._next_look *= 2

    def _decode_looked_at_again(self) -> None:
        if not self._looked_at_again:
            return
        decoder = new_decoder(self._stream, threads=1)
        frames: list[VideoFrame] = []
        for packet in [*self._looked_at_again, None]:
            try:
                frames += decoder.decode(packet)
            except MemoryError:
                raise
            except av.FFmpegError:  # damage there is found when it is decoded to be used
                continue
        self._look_at(frames)
        self._looked_at_again = []
        if self._hollowing:
            self._hollowing.check(frames)

    def _look_at(self, frames: list[VideoFrame]) -> None:
        self.is_interlaced = self.is_interlaced or any(frame.interlaced_frame for frame in frames)
        self.has_repeat_flags = self.has_repeat_flags or any(repeats_field(frame) for frame in frames)

    def _compare_dts(self, packet: av.Packet[Any]) -> None:
        if packet.dts is None:
            return
        if self._last_dts is not None:
            step_s = (packet.dts - self._last_dts) * packet.time_base
            self._goes_back = self._goes_back or step_s < -BACK_S
            self.has_gap = self.has_gap or step_s > GAP_S
        self._last_dts = packet.dts

    def _problem(self, is_without_pts: bool) -> str:
        in_decode_order = np.frombuffer(self.pts, dtype=np.int64)
        ordered = np.sort(in_decode_order)
        if self._is_out_of_order(in_decode_order, is_without_pts):
            return NOT_IN_DISPLAY_ORDER
        if 2 * self.num_without_pts > self.num_frames:
            return MOSTLY_MISSING
        if self.num_without_pts:
            return f"{self.num_without_pts} frames have no timestamp"
        num_repeated = int(np.count_nonzero(np.diff(ordered) == 0))
        if num_repeated:
            return f"{num_repeated} frames have the timestamp of another"
        if len(ordered) and ordered[0] < 0:
            return "timestamps start before zero"
        lateness = np.arange(len(ordered)) - np.searchsorted(ordered, in_decode_order)
        if self._goes_back or np.max(lateness, initial=0) > _MAX_REORDERING:
            return "timestamps jump back"
        return ""

    def _is_out_of_order(self, in_decode_order: PtsArray, is_without_pts: bool) -> bool:
        """Whether pts are the times of decoding, although frames are displayed in another order.

        AVI has no other times, and the demuxer makes pts of them.
        """
        if np.any(np.diff(in_decode_order) <= 0):
            return False
        seen = [frame.pts for frame in self.frames if frame.pts is not None]
        return (is_without_pts and self._decoder.has_b_frames) or seen != sorted(seen)
