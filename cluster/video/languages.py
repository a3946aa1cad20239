"""Languages by their codes of three letters, of which some have two, and QuickTime another. Pure."""

from __future__ import annotations

# ISO 639-2, terminological and bibliographic: all languages for which the two differ.
_PAIRS = (
    *(("sqi", "alb"), ("hye", "arm"), ("eus", "baq"), ("mya", "bur"), ("zho", "chi")),
    *(("ces", "cze"), ("nld", "dut"), ("fra", "fre"), ("kat", "geo"), ("deu", "ger")),
    *(("ell", "gre"), ("isl", "ice"), ("mkd", "mac"), ("mri", "mao"), ("msa", "may")),
    *(("fas", "per"), ("ron", "rum"), ("slk", "slo"), ("bod", "tib"), ("cym", "wel")),
)
# What FFmpeg (8.1) calls some of the Macintosh's language codes, which stand for these of ISO 639-2.
_FFMPEG_NAMES = {"sve": "swe", "hr ": "hrv", "fo ": "fao", "sr ": "srp", "pa ": "pan", "iri": "gle"}

_SPELLINGS = {
    **{code: pair for pair in _PAIRS for code in pair},
    **{iso: (iso, name) for name, iso in _FFMPEG_NAMES.items()},
}

# What FFmpeg's muxer of QuickTime (8.1) has codes for; all other languages are lost there.
_OF_QUICKTIME = """
    eng fra ger ita dut spa dan por nor heb jpn ara fin gre ice mlt tur chi urd hin tha kor lit pol hun est
    lav smi per rus alb ron ces slk slv yid mac bul ukr bel uzb kaz aze arm geo mol kir tgk tuk mon pus kur
    kas snd tib nep san mar ben asm guj ori mal kan tam tel sin bur khm lao vie ind tgl may amh tir orm som
    swa kin run nya mlg epo wel baq cat lat que grn aym tat uig dzo jav
"""
_QUICKTIME = {*_OF_QUICKTIME.split(), *_FFMPEG_NAMES}


def iso_code(language: str) -> str:
    """`language` as ISO 639-2 spells it, where it is one of FFmpeg's own names; others as they are."""
    return _FFMPEG_NAMES.get(language, language)


def quicktime_name(code: str) -> str | None:
    """What FFmpeg's muxer of QuickTime calls the language with this code of ISO 639-2; None if it cannot."""
    return next((name for name in _SPELLINGS.get(code, (code,)) if name in _QUICKTIME), None)


def is_same_language(one: str, other: str) -> bool:
    """Whether both are one language, in whatever spelling; what is not known is one as well."""
    codes = {iso_code(language).strip().lower() or "und" for language in (one, other)}
    return len(codes) == 1 or any(codes == set(pair) for pair in _PAIRS)
