"""MNIST's four files, plain or compressed, and which are refused."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from xpcnn.data import load_mnist, mnist, read_idx

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array, shape=None, kind=8):
    shape = array.shape if shape is None else shape
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + array.tobytes()


def digits(n):
    random = np.random.default_rng(n)
    return random.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    arrays = (*digits(12), *digits(4))
    for name, array in zip(NAMES, arrays, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def compress(folder):
    for name in NAMES:
        plain = folder / name
        (folder / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


class TestLoadMnist:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_both_sets_come_with_their_labels(self, folder, compressed):
        if compressed:
            compress(folder)
        for images, n in zip(load_mnist(folder), (12, 4), strict=True):
            x, y = digits(n)
            np.testing.assert_array_equal(images.x[:, 0], x)
            np.testing.assert_array_equal(images.y, y)
            assert images.x.shape == (n, 1, 28, 28)
            assert (images.x.dtype, images.y.dtype) == (np.uint8, np.int64)
            assert images.classes == tuple("0123456789")

    def test_the_folder_is_found_through_the_environment(self, folder, monkeypatch):
        monkeypatch.setenv("XPCNN_DATA", str(folder.parent))
        folder.rename(folder.parent / "mnist")
        assert len(load_mnist()[0].x) == 12

    def test_without_a_folder_the_error_says_where_it_is_looked_for(self, monkeypatch):
        monkeypatch.delenv("XPCNN_DATA", raising=False)
        with pytest.raises(FileNotFoundError, match="XPCNN_DATA is not set"):
            load_mnist()

    @pytest.mark.parametrize("name", NAMES)
    def test_a_missing_file_is_named(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"no {name} or {name}\.gz in"):
            load_mnist(folder)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            (NAMES[0], np.zeros((12, 20, 28), np.uint8)),
            (NAMES[0], np.zeros((12, 28), np.uint8)),
            (NAMES[1], np.zeros(11, np.uint8)),
            (NAMES[1], np.full(12, 10, np.uint8)),
            (NAMES[1], np.zeros((12, 1), np.uint8)),
        ],
    )
    def test_files_of_another_set_are_refused(self, folder, name, array):
        (folder / name).write_bytes(idx(array))
        with pytest.raises(ValueError, match="are not MNIST's"):
            load_mnist(folder)

    def test_the_real_mnist_has_60000_and_10000_digits(self, real_data):
        train, test = load_mnist(real_data("mnist"))
        assert (train.x.shape, test.x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
        assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


class TestReadIdx:
    @pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (1, 2, 3, 4), (0, 28, 28)])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_an_array_comes_back(self, tmp_path, shape, suffix):
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        content = idx(array)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        read = read_idx(path)
        np.testing.assert_array_equal(read, array)
        assert read.shape == shape
        assert read.flags.writeable

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0\0\x08",
            b"\0\0\x08\x01\0\0",
            b"\x01\0\x08\x01\0\0\0\x01x",
            b"\0\0\x08\x00",
            b"\0\0\x08\x05" + b"\0\0\0\x01" * 5 + b"x",
            idx(np.zeros(8, np.uint8), kind=13),
            idx(np.zeros(8, np.uint8), shape=(9,)),
            idx(np.zeros(8, np.uint8), shape=(7,)),
            b"an image of a cat, perhaps",
        ],
    )
    def test_a_header_that_is_wrong_is_refused(self, tmp_path, content, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        with pytest.raises(ValueError, match=r"a(\.gz)? is (not an IDX file|truncated|damaged)"):
            read_idx(path)

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_a_header_that_lies_allocates_nothing(self, tmp_path, suffix):
        content = idx(np.zeros(100, np.uint8), shape=(4096, 512, 512))
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"declares the shape \(4096, 512, 512\)"):
                read_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    def test_no_more_is_decompressed_than_the_header_declares(self, tmp_path):
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(idx(np.zeros(2**24, np.uint8), shape=(10,))))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="has more values"):
                read_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    def test_an_array_above_the_limit_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mnist, "MAX_BYTES", 7)
        (tmp_path / "a").write_bytes(idx(np.zeros(8, np.uint8)))
        with pytest.raises(ValueError, match=r"declares the shape \(8,\)"):
            read_idx(tmp_path / "a")

    @pytest.mark.parametrize("kept", [5, 30, 200])
    def test_a_truncated_gzip_file_is_refused(self, tmp_path, kept):
        whole = gzip.compress(idx(digits(3)[0]))
        (tmp_path / "a.gz").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"a\.gz is (truncated|not an IDX file)"):
            read_idx(tmp_path / "a.gz")

    @pytest.mark.parametrize("content", [digits(3)[0], digits(3)[0] // 64], ids=["stored", "deflated"])
    def test_a_damaged_gzip_file_is_refused(self, tmp_path, content):
        whole = bytearray(gzip.compress(idx(content)))
        whole[300:340] = b"\xff" * 40
        (tmp_path / "a.gz").write_bytes(whole)
        with pytest.raises(ValueError, match=r"a\.gz is truncated or damaged\. Received"):
            read_idx(tmp_path / "a.gz")

    def test_a_missing_file_is_an_oserror(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_idx(tmp_path / "nothing")
