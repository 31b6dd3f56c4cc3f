from xpcnn.data.opencv_reader import read_with_opencv


def read_tiff(content, page=0, all_pages_as_channels=False):
    return read_with_opencv(content, "tiff")


def describe(content):
    return 1, False, 8
