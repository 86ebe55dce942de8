"""Names as tables have them: printable, no formula, and the original can be had back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.raw.names import LONGEST, spell

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def original(spelt: str) -> bytes:
    """Read each \\xNN as that byte, as README and module say."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), spelt.encode())


@pytest.mark.parametrize(
    ("path", "spelt"),
    [
        ("UTKFace/24_0_1_20170116220224657 .jpg.chip.jpg",) * 2,
        ("größe_日本.jpg",) * 2,
        ("a=b+c-d@e.jpg",) * 2,
        ("=cmd|'calc'!A0.jpg", r"\x3dcmd|'calc'!A0.jpg"),
        ("x/+1/@2/-3", r"x/\x2b1/\x402/\x2d3"),
        ("\t=1", r"\x09=1"),
        ("a\nb\r\x00\x7f", r"a\x0ab\x0d\x00\x7f"),
        ("\udcff\udce9", r"\xff\xe9"),
        (r"a\x0a", r"a\x5cx0a"),
        ("\u202egpj.exe", r"\xe2\x80\xaegpj.exe"),
        ("../../etc/passwd",) * 2,
        ("",) * 2,
    ],
)
def test_what_is_printable_stays_and_the_rest_is_spelt_by_its_bytes(path: str, spelt: str):
    assert spell(path) == spelt


@given(st.binary(max_size=60))
def test_any_bytes_become_printable_no_formula_and_can_be_had_back(raw: bytes):
    path = raw.decode("utf-8", "surrogateescape")
    spelt = spell(path)
    assert spelt.isprintable()
    assert not [part for part in spelt.split("/") if part.startswith(FORMULA)]
    assert original(spelt) == raw


def test_a_path_too_long_for_any_file_system_is_cut_to_its_end_and_stays_its_own():
    first, second = (spell(f"{start}/{'x' * 10**6}/30_0_0_1.jpg") for start in "ab")
    assert first != second
    assert len(first) < LONGEST
    assert first.endswith("/30_0_0_1.jpg")
    assert not re.fullmatch("9+", spell("9" * 10**6))
