"""A seeded mutator: the same seed makes the same damaged files."""

import random
import struct
import zlib

#: Numbers at which sizes, signs and lengths go wrong.
INTERESTING = (0, 1, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
#: How many changes are made: mostly one, after which much can still be read.
CHANGES_MADE = (1, 1, 1, 2, 4)


def mutate(content, seed, other=b""):
    """Return bytes with one to four changes; ``other`` is what pieces may come from."""
    draw = random.Random(seed)
    changed = bytearray(content)
    for _ in range(draw.choice(CHANGES_MADE)):
        draw.choice(CHANGES)(draw, changed, other or content)
    return bytes(changed)


def _place(draw, content):
    """A place in the content: anywhere, or near its start, where the headers are."""
    return draw.randrange(max(1, min(len(content), draw.choice([64, len(content)]))))


def _flip(draw, content, other):
    if content:
        content[_place(draw, content) % len(content)] ^= 1 << draw.randrange(8)


def _set(draw, content, other):
    if content:
        content[_place(draw, content) % len(content)] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])


def _number(draw, content, other):
    place, size = _place(draw, content), draw.choice([1, 2, 4, 8])
    number = draw.choice(INTERESTING) % 256**size
    content[place : place + size] = number.to_bytes(size, draw.choice(["big", "little"]))


def _remove(draw, content, other):
    place = _place(draw, content)
    del content[place : place + draw.choice([1, 4, 32, 256])]


def _repeat(draw, content, other):
    place = _place(draw, content)
    piece = content[place : place + draw.choice([1, 4, 32, 256])]
    content[place:place] = piece * draw.choice([1, 2, 16])


def _insert(draw, content, other):
    place = _place(draw, content)
    content[place:place] = draw.randbytes(draw.choice([1, 4, 32]))


def _cut_off(draw, content, other):
    del content[_place(draw, content) :]


def _splice(draw, content, other):
    place, start = _place(draw, content), _place(draw, other)
    piece = other[start : start + draw.choice([4, 32, 256])]
    content[place : place + len(piece)] = piece


#: Small changes are drawn more often than those after which nothing is left to read.
CHANGES = (_flip, _flip, _flip, _set, _set, _number, _number, _remove, _repeat, _insert, _splice, _cut_off)


def with_right_checksums(content):
    """Return a PNG whose chunks, as far as they can be followed, have the checksums that their bytes ask for."""
    changed, place = bytearray(content), 8
    while content.startswith(b"\x89PNG") and place + 12 <= len(changed):
        (length,) = struct.unpack_from(">I", changed, place)
        end = place + 8 + length
        if end + 4 > len(changed):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(changed[place + 4 : end]))
        place = end + 4
    return bytes(changed)
