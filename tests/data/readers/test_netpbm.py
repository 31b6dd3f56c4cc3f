"""Portable maps of any maximum value, binary and text, and of floats."""

import struct

import numpy as np
import pytest

from tests.data.readers.files import read
from xpcnn.data.pixels import Refusal


def pnm(form, maximum, *samples):
    """One row of samples as P2, P3 (text), P5 or P6 (binary)."""
    width = len(samples) // (3 if form in "36" else 1)
    head = f"P{form}\n# by hand\n{width} 1\n{maximum}\n".encode()
    if form in "23":
        return head + " ".join(map(str, samples)).encode() + b"\n"
    return head + (bytes(samples) if maximum < 256 else struct.pack(f">{len(samples)}H", *samples))


@pytest.mark.parametrize("form", "2356")
class TestMaximum:
    @pytest.mark.parametrize(
        ("maximum", "written", "expected"),
        [
            (1, [0, 1, 1], [0, 255, 255]),
            (15, [0, 1, 15], [0, 17, 255]),
            (100, [0, 1, 100], [0, 3, 255]),
            (254, [0, 1, 254], [0, 1, 255]),
            (255, [0, 1, 255], [0, 1, 255]),
        ],
    )
    def test_up_to_255_is_spread_over_all_bytes(self, form, maximum, written, expected):
        values = read(pnm(form, maximum, *written)).values
        assert values.dtype == np.uint8
        assert values.ravel().tolist() == expected

    @pytest.mark.parametrize("maximum", [256, 1000, 4095, 65535])
    def test_above_255_values_are_as_they_were_written(self, form, maximum):
        values = read(pnm(form, maximum, 0, 1, maximum)).values
        assert values.dtype == np.uint16
        assert values.ravel().tolist() == [0, 1, maximum]

    @pytest.mark.parametrize("maximum", [100, 1000])
    def test_a_value_above_it_is_refused(self, form, maximum):
        with pytest.raises(Refusal, match=f"above its maximum of {maximum}"):
            read(pnm(form, maximum, 0, 1, maximum + 1))

    @pytest.mark.parametrize("maximum", [0, 65536])
    def test_an_impossible_one_is_refused(self, form, maximum):
        with pytest.raises(Refusal, match="PNM that is truncated or damaged"):
            read(pnm(form, maximum, 0, 0, 0))

    @pytest.mark.parametrize("maximum", [100, 255, 1000])
    @pytest.mark.parametrize("cut", [1, 2])
    def test_a_truncated_one_is_refused(self, form, maximum, cut):
        cut += form in "23"  # the line's end may be missing
        with pytest.raises(Refusal, match="PNM that is truncated or damaged"):
            read(pnm(form, maximum, 7, 8, 9)[:-cut])


@pytest.mark.parametrize("content", [b"P1\n3 1\n1 0 1\n", b"P1 3 1 101\n", b"P4\n3 1\n\xa0"])
def test_of_one_bit_1_is_black(content):
    assert read(content).values.ravel().tolist() == [0, 255, 0]


def pam(samples, maximum, values):
    head = f"P7\nWIDTH 1\nHEIGHT 1\nDEPTH {samples}\nMAXVAL {maximum}\nTUPLTYPE ANY\nENDHDR\n"
    return head.encode() + values


class TestPam:
    @pytest.mark.parametrize(
        ("content", "kind", "expected", "kept"),
        [
            (pam(1, 255, b"\1"), "grey", [1], [1]),
            (pam(1, 1, b"\1"), "grey", [255], [255]),
            (pam(2, 255, b"\1\2"), "grey", [1], [1, 2]),
            (pam(3, 255, b"\1\2\3"), "rgb", [1, 2, 3], [1, 2, 3]),
            (pam(4, 255, b"\1\2\3\4"), "rgb", [1, 2, 3], [1, 2, 3, 4]),
            (pam(3, 1000, struct.pack(">3H", 1, 2, 1000)), "rgb", [1, 2, 1000], [1, 2, 1000]),
        ],
    )
    def test_samples_are_in_their_order(self, content, kind, expected, kept):
        pixels = read(content)
        assert (pixels.kind, pixels.alpha, pixels.values.ravel().tolist()) == (kind, False, expected)
        pixels = read(content, channels_as_they_are=True)
        assert (pixels.alpha, pixels.values.ravel().tolist()) == (len(kept) in (2, 4), kept)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (pam(5, 255, bytes(5)), "5 samples"),
            (pam(3, 255, bytes(2)), "truncated or damaged"),
            (b"P7\nWIDTH 1\nENDHDR\n\0", "truncated or damaged"),
            (b"P7\nWIDTH 1\n", "truncated or damaged"),
        ],
    )
    def test_others_are_refused(self, content, reason):
        with pytest.raises(Refusal, match=reason):
            read(content)


class TestFloats:
    @pytest.mark.parametrize(("scale", "order"), [("-1.0", "<"), ("1.0", ">"), ("-2.5", "<")])
    @pytest.mark.parametrize(("letter", "samples"), [("f", 1), ("F", 3)])
    def test_rows_are_from_the_top_on_and_values_as_they_were_written(self, scale, order, letter, samples):
        written = (np.arange(2 * samples) - 0.5).astype(f"{order}f4")
        pixels = read(f"P{letter}\n1 2\n{scale}\n".encode() + written.tobytes())
        assert pixels.kind == ("grey" if samples == 1 else "rgb")
        assert pixels.values.dtype == np.float32
        np.testing.assert_array_equal(pixels.values[:, 0], written.reshape(2, samples)[::-1])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_refused(self, value):
        with pytest.raises(Refusal, match="NaN or infinite"):
            read(b"Pf\n1 1\n-1.0\n" + np.float32(value).tobytes())

    @pytest.mark.parametrize("content", [b"Pf\n1 1\n-1.0\n\0\0\0", b"Pf\n1", b"PF\n1 1\n-1.0\n" + bytes(11)])
    def test_a_truncated_one_is_refused(self, content):
        with pytest.raises(Refusal, match="PFM that is truncated or damaged"):
            read(content)


@pytest.mark.parametrize(
    "head", ["P5\n{0} {0}\n255\n", "P7\nWIDTH {0}\nHEIGHT {0}\nDEPTH 1\nMAXVAL 255\nENDHDR\n", "Pf\n{0} {0}\n-1.0\n"]
)
@pytest.mark.parametrize("side", [2**14, 999_999_999])
def test_one_that_claims_too_many_pixels_is_refused(head, side):
    with pytest.raises(Refusal, match="pixels"):
        read(head.format(side).encode() + bytes(9))
