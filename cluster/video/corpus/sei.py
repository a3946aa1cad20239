"""Messages that stand in the bitstream beside pictures: closed captions and HDR10+."""

from __future__ import annotations

from collections.abc import Callable

_START = b"\0\0\0\1"
_T35 = 4  # payload type: user data registered by ITU-T T.35
_UNITED_STATES = 0xB5
_H264_SEI, _H264_SLICES = 6, (1, 5)
_HEVC_PREFIX_SEI, _HEVC_LAST_SLICE = 39, 31


def captions(text: str) -> bytes:
    """Closed captions of `text`, two letters, for field 1 (CEA-708, and ATSC A/53 part 4, 6.2.3)."""
    one, two = (_with_odd_parity(ord(letter)) for letter in text)
    blocks = bytes([0xFC, one, two])  # marker bits, valid, NTSC field 1
    return bytes([_UNITED_STATES]) + b"\0\x31GA94" + bytes([3, 0x40 | 1, 0xFF]) + blocks + bytes([0xFF])


def hdr10_plus(max_rgb: int) -> bytes:
    """The least that SMPTE ST 2094-40 says of a picture: the brightest of each colour, in 0.00001 of full."""
    bits = _bits((1, 8), (1, 2), (1000, 27), (0, 1))  # version, windows, target display, no peak luminances
    bits += _bits(*[(max_rgb, 17)] * 3, (max_rgb // 2, 17), (0, 4), (0, 10), (0, 1))
    bits += _bits((0, 1), (0, 1))  # no tone mapping, no saturation mapping
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return bytes([_UNITED_STATES]) + b"\0\x3c\0\1\4" + data


def with_h264_sei(payload: bytes, message: bytes) -> bytes:
    """An H.264 picture (ITU-T H.264, Annex B) with a T.35 message before its first slice."""
    unit = bytes([_H264_SEI]) + _sei(message)
    return _before_first_slice(payload, unit, lambda byte: byte & 31 in _H264_SLICES)


def with_hevc_sei(payload: bytes, message: bytes) -> bytes:
    """An HEVC picture (ITU-T H.265, Annex B) with a T.35 message before its first slice."""
    unit = bytes([_HEVC_PREFIX_SEI << 1, 1]) + _sei(message)
    return _before_first_slice(payload, unit, lambda byte: (byte >> 1 & 63) <= _HEVC_LAST_SLICE)


def _sei(message: bytes) -> bytes:
    assert len(message) < 255
    return _escaped(bytes([_T35, len(message)]) + message) + b"\x80"


def _escaped(payload: bytes) -> bytes:
    """Without what would look like a start code (ITU-T H.264, 7.4.1)."""
    out = bytearray()
    for byte in payload:
        if out[-2:] == b"\0\0" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def _before_first_slice(payload: bytes, unit: bytes, is_slice: Callable[[int], bool]) -> bytes:
    short = _START[1:]
    at = payload.find(short)
    while at >= 0 and not is_slice(payload[at + len(short)]):
        at = payload.find(short, at + 1)
    assert at >= 0, "a picture has a slice"
    if payload[at - 1 : at] == b"\0":
        at -= 1
    return payload[:at] + _START + unit + payload[at:]


def _with_odd_parity(value: int) -> int:
    return value | (0x80 if value.bit_count() % 2 == 0 else 0)


def _bits(*fields: tuple[int, int]) -> str:
    """(value, number of bits) one after the other."""
    return "".join(f"{value:0{size}b}" for value, size in fields)
