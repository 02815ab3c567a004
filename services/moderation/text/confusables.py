"""Characters that are read as ASCII letters and are others.

Three kinds are told apart, for text in Greek or Russian is no disguise:

- `STYLED`: letters that exist only as a style of the Latin ones (𝗯𝗼𝗹𝗱, ⓒⓘⓡⓒⓛⓔⓓ, ｗｉｄｅ, ꜱᴍᴀʟʟ ᴄᴀᴘꜱ) or in scripts
  that nobody writes to a chat service but for their looks.
- `LOOKALIKE`: letters of living scripts that cannot be told from Latin ones by eye.
- `SIMILAR`: letters of living scripts that are read as a Latin one only among Latin ones (Rеаl Mаdгid).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping


def _pairs(text: str) -> dict[str, str]:
    """`аa еe` as a mapping."""
    return {pair[0]: pair[1:] for pair in text.split()}


LOOKALIKE: Mapping[str, str] = {
    # Cyrillic
    **_pairs("аa еe оo рp сc уy хx іi јj ѕs һh ԁd ԛq ԝw ѵv ӏl үy ѐe ёe їi ԍg"),
    **_pairs("АA ВB ЕE КK МM НH ОO РP СC ТT УY ХX ІI ЈJ ЅS ҺH ԌG ԚQ ԜW ѴV ҮY ӀI ЁE ЇI"),
    # Greek
    **_pairs("αa οo ρp νv ιi κk τt υu χx ϲc ϳj"),
    **_pairs("ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ϹC ͿJ"),
    # Armenian
    **_pairs("օo սu հh ոn յj ցg զq լl ՏS ՕO ՍU ԼL"),
}

SIMILAR: Mapping[str, str] = {
    **_pairs("вb нh кk мm тt гr пn иn йn ьb ъb бb зe эe дd лl яr шw щw цu чy жx фo юo ґr єe ҽe ҝk қk ңh ӊh ҳx ҷy"),
    **_pairs("ГT ПN ИN ЙN ЬB БB ЗE ЭE ДD ЛL ЯR ШW ЩW ЦU ЧY ЖX ФO ЄE ҚK ҢH ҲX"),
    **_pairs("εe ηn γy ωw βb μu σo ςs θo λl δd πn ζz φo ξe ΔD ΛA ΣE ΠN ΘO ΩO ΦO ΓT άa έe ήn ίi όo ύu ώw"),
    **_pairs("աw եt տm ռn վu քp ֆf ղn ԱU ԳQ ԴI"),
}

_SMALL_CAPS = "ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ꞯq ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz"
_LATIN = "ɑa ɡg ɩi ǀl ɐa ɔc ǝe ɟf ƃg ɥh ᴉi ɾj ʞk ɯm ɹr ʇt ʌv ʍw ʎy"
_CHEROKEE = "ᎪA ᏴB ᏟC ᎠD ᎬE ᏀG ᎻH ᎥI ᎫJ ᏦK ᏞL ᎷM ᏢP ᎡR ᏚS ᎢT ᏙV ᎳW ᏃZ"
_LISU = "ꓐB ꓑP ꓒd ꓓD ꓔT ꓖG ꓗK ꓙJ ꓚC ꓜZ ꓝF ꓟM ꓠN ꓡL ꓢS ꓣR ꓦV ꓧH ꓪW ꓫX ꓬY ꓮA ꓰE ꓲI ꓳO ꓴU"
_COPTIC = "ⲟo ⲣp ⲥc ⲕk ⲛn ⲧt ⲩy ⲭx ⲁa ⲉe ⲓi ⲏh ⲙm ⲞO ⲢP ⲤC ⲔK ⲚN ⲦT ⲨY ⲬX ⲀA ⲈE ⲒI ⲎH ⲘM"
_SYLLABICS = "ᗩA ᗷB ᑕC ᗪD ᖴF ᕼH ᒍJ ᒪL ᗰM ᑎN ᑭP ᖇR ᔕS ᑌU ᐯV ᗯW ᙭X"
_STROKES = "ıi ȷj øo łl đd ħh ŧt ɨi ƀb ȼc ɇe ǥg ɉj ƙk ɫl ᵽp ɋq ɍr ʉu ʋv ƶz"
_STROKES += " ØO ŁL ĐD ĦH ŦT ƗI ɃB ȻC ɆE ǤG ɈJ ƘK ⱢL ⱣP ɊQ ɌR ɄU ƵZ"


def _letters(first: int, count: int = 26) -> dict[str, str]:
    """The alphabet at consecutive places."""
    return {chr(first + index): chr(ord("A") + index) for index in range(count)}


def _compatible() -> dict[str, str]:
    """Characters that Unicode itself calls a style of one ASCII letter, from the blocks that hold styles."""
    blocks = [(0x02B0, 0x02FF), (0x1D2C, 0x1D6A), (0x2070, 0x209F), (0x2100, 0x214F), (0x249C, 0x24E9)]
    blocks += [(0x2C7C, 0x2C7D), (0xFF21, 0xFF5A), (0x1D400, 0x1D7FF), (0x1F110, 0x1F16F)]
    found: dict[str, str] = {}
    for first, last in blocks:
        for place in range(first, last + 1):
            letter = unicodedata.normalize("NFKC", chr(place)).strip("()〔〕")
            if len(letter) == 1 and letter.isascii() and letter.isalpha():
                found[chr(place)] = letter
    return found


REGIONAL: Mapping[str, str] = _letters(0x1F1E6)
"""Pairs of them are flags."""

STYLED: Mapping[str, str] = {
    **_compatible(),
    **_pairs(" ".join((_SMALL_CAPS, _LATIN, _CHEROKEE, _LISU, _COPTIC, _SYLLABICS))),
    **_letters(0x1F150),
    **_letters(0x1F170),
}

STROKES: Mapping[str, str] = {**_pairs(_STROKES), "æ": "ae", "œ": "oe", "Æ": "AE", "Œ": "OE", "þ": "th", "ð": "d"}
"""Letters of living Latin alphabets that do not decompose: for patterns only."""
