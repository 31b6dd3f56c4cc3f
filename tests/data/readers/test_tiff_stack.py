"""Which planes of a TIFF file are pages and which are channels, as described by ImageJ, OME, tifffile or nothing."""

import io
import itertools

import numpy as np
import pytest
import tifffile

from tests.data.readers.test_tiff import grey, refusal, some_values, written
from xpcnn.data.readers.tiff import read_tiff

WRITERS = {
    "ImageJ": {"imagej": True},
    "ImageJ, one directory": {"imagej": True, "truncate": True},
    "ImageJ, deflate": {"imagej": True, "compression": "zlib"},
    "OME": {"ome": True},
    "OME, LZW": {"ome": True, "compression": "lzw"},
    "tifffile": {},
    "tifffile, one directory": {"truncate": True},
}
SIZES = {"T": 2, "Z": 4, "C": 3, "Y": 9, "X": 11, "S": 3}


def stack(axes, **writer):
    values = some_values([SIZES[axis] for axis in axes])
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    return values, written(values, photometric=photometric, metadata={"axes": axes}, **writer)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("axes", ["CYX", "ZYX", "TYX", "ZCYX", "TCYX", "TZYX", "TZCYX"])
def test_channels_are_samples_and_all_else_is_pages(axes, writer):
    values, content = stack(axes, **WRITERS[writer])
    values = values.reshape(-1, SIZES["C"] if "C" in axes else 1, SIZES["Y"], SIZES["X"])
    for page, expected in enumerate(values):
        picture = read_tiff(content, page=page)
        assert (picture.kind, picture.pages) == ("channels" if "C" in axes else "grey", len(values))
        np.testing.assert_array_equal(picture.values, np.moveaxis(expected, 0, 2))
    assert f"holds {len(values)}" in refusal(content, page=len(values))


@pytest.mark.parametrize("writer", WRITERS)
def test_colour_pages_are_pages(writer):
    values, content = stack("ZYXS", **WRITERS[writer])
    picture = read_tiff(content, page=2)
    assert (picture.kind, picture.pages) == ("rgb", 4)
    np.testing.assert_array_equal(picture.values, values[2])


@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("TZC")])
def test_axes_of_ome_are_taken_in_their_order(axes):
    values, content = stack(f"{axes}YX", ome=True)
    channels_last = np.moveaxis(values, axes.index("C"), -1)
    for page, expected in enumerate(channels_last.reshape(-1, SIZES["Y"], SIZES["X"], SIZES["C"])):
        np.testing.assert_array_equal(read_tiff(content, page=page).values, expected)


def test_channels_whose_pages_have_several_samples_are_pages():
    planes = some_values((3, 9, 11, 2))
    content = described("ImageJ=1.5\nchannels=3", planes, photometric="minisblack", extrasamples=["unassalpha"])
    picture = read_tiff(content, page=2)
    assert (picture.kind, picture.alpha, picture.pages) == ("grey", True, 3)
    np.testing.assert_array_equal(picture.values, planes[2])


def ome_xml(blocks, sizes='SizeC="2" SizeZ="1" SizeT="2"', root=""):
    pixels = f'<Pixels DimensionOrder="XYCZT" SizeX="11" SizeY="9" {sizes}>{blocks}</Pixels>'
    return f"<OME {root}><Image>{pixels}</Image></OME>"


def described(description, planes, **options):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for number, plane in enumerate(planes):
            file.write(
                plane, description=description if number == 0 else None, metadata=None, contiguous=False, **options
            )
    return stream.getvalue()


def test_planes_of_ome_are_found_where_it_says():
    planes = some_values((5, 9, 11))
    blocks = (
        '<TiffData IFD="3" FirstC="0" FirstT="0"/><TiffData IFD="1" FirstC="1" FirstT="0"/>'
        '<TiffData IFD="2" FirstT="1" PlaneCount="1"/><TiffData IFD="0" FirstT="1" FirstC="1" PlaneCount="1"/>'
    )
    content = described(ome_xml(blocks), planes)
    for page, numbers in enumerate([(3, 1), (2, 0)]):
        np.testing.assert_array_equal(read_tiff(content, page=page).values, np.moveaxis(planes[[*numbers]], 0, 2))
    np.testing.assert_array_equal(grey(content, page=2), planes[4])
    assert read_tiff(content).pages == 3


def test_planes_in_other_files_are_refused_where_they_are_needed():
    planes = some_values((2, 9, 11))
    blocks = (
        '<TiffData IFD="0" PlaneCount="2"><UUID FileName="a.tif">urn:a</UUID></TiffData>'
        '<TiffData IFD="0" FirstT="1" PlaneCount="2"><UUID FileName="b.tif">urn:b</UUID></TiffData>'
    )
    content = described(ome_xml(blocks, root='UUID="urn:a"'), planes)
    np.testing.assert_array_equal(read_tiff(content, page=0).values, np.moveaxis(planes, 0, 2))
    assert "lies in another file" in refusal(content, page=1)


@pytest.mark.parametrize(
    "description",
    [
        ome_xml('<TiffData IFD="3" PlaneCount="4"/>'),
        ome_xml('<TiffData FirstC="2" IFD="0"/>'),
        ome_xml('<TiffData IFD="0"/><TiffData IFD="1"/>'),
        ome_xml("", sizes='SizeC="2" SizeZ="3" SizeT="2"'),
        ome_xml("", sizes='SizeC="999999999" SizeZ="999999999" SizeT="999999999"'),
        ome_xml("<TiffData/>", sizes='SizeC="999999" SizeZ="999999" SizeT="999999"'),
        ome_xml('<TiffData PlaneCount="999999999"/>'),
        ome_xml("", sizes='SizeC="-1" SizeZ="1" SizeT="1"'),
        ome_xml("").replace('SizeX="11"', 'SizeX="12"'),
        "<OME><Image></OME>",
        "<OME><BinaryOnly/></OME>",
        "ImageJ=1.5\nimages=9\nslices=9",
        "ImageJ=1.5\nimages=999999999\nframes=999999999",
        "ImageJ=1.5\nimages=4\nslices=4\norder=czz",
        '{"shape": [9, 9, 11], "axes": "ZYX"}',
        '{"shape": [5, 9, 11], "axes": "ZYX"}',
        '{"shape": [1e400]}',
        '{"shape": 3}',
        '{"shape":' + "[" * 10_000,
    ],
)
def test_descriptions_that_do_not_fit_the_pages_are_refused(description):
    assert "description" in refusal(described(description, some_values((4, 9, 11))))


def plain(*pages, **options):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for page in pages:
            file.write(page, metadata=None, contiguous=False, **options)
    return stream.getvalue()


def test_without_a_description_pages_are_pages_whatever_their_size():
    first, second = some_values((9, 11)), some_values((5, 7), "uint16")
    content = plain(first, second)
    assert read_tiff(content).pages == 2
    np.testing.assert_array_equal(grey(content, page=0), first)
    np.testing.assert_array_equal(grey(content, page=1), second)
    for together in ({"page": "max"}, {"page": "mean"}, {"all_pages_as_channels": True}):
        assert "differ" in refusal(content, **together)


def test_smaller_versions_of_a_page_are_not_counted():
    stream, page = io.BytesIO(), some_values((9, 11))
    with tifffile.TiffWriter(stream) as file:
        file.write(page[::2, ::2], metadata=None, subfiletype=1)
        file.write(page, metadata=None)
    assert read_tiff(stream.getvalue()).pages == 1
    np.testing.assert_array_equal(grey(stream.getvalue()), page)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_all_pages_make_one_of_largest_or_of_mean_values(dtype):
    pages = some_values((3, 9, 11), dtype)
    content = plain(*pages)
    np.testing.assert_array_equal(grey(content, page="max"), pages.max(axis=0))
    mean = pages.mean(axis=0, dtype=np.float64)
    expected = np.rint(mean).astype(dtype) if dtype != "float32" else mean.astype(dtype)
    picture = read_tiff(content, page="mean")
    assert (picture.values.dtype, picture.pages) == (expected.dtype, 3)
    np.testing.assert_array_equal(picture.values[:, :, 0], expected)


def test_channels_are_combined_each_for_itself():
    values, content = stack("ZCYX", ome=True)
    np.testing.assert_array_equal(read_tiff(content, page="max").values, np.moveaxis(values.max(axis=0), 0, 2))


@pytest.mark.parametrize("writer", [{"metadata": None}, {}, {"imagej": True, "metadata": {"axes": "TZCYX"[2:]}}])
def test_pages_of_which_nothing_says_what_they_are_can_be_channels(writer):
    values = some_values((3, 9, 11))
    picture = read_tiff(written(values, photometric="minisblack", **writer), all_pages_as_channels=True)
    assert (picture.kind, picture.pages) == ("channels", 1)
    np.testing.assert_array_equal(picture.values, np.moveaxis(values, 0, 2))


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "ZCYX", "ZYXS"])
def test_slices_times_and_colours_are_no_channels(axes):
    for writer in ({"imagej": True}, {"ome": True}, {}):
        content = stack(axes, **writer)[1]
        assert read_tiff(content, all_pages_as_channels=True).pages == SIZES[axes[0]]


@pytest.mark.parametrize("page", [-1, 1, 10**9])
def test_a_page_that_is_not_there_is_refused(page):
    assert refusal(written(some_values((9, 11))), page=page).startswith(f"it has no page {page}: it holds 1")
