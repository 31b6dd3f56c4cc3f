"""The readers of picture files: which one takes a file is decided by its content, and each is right or refuses.

``containers`` tells the kinds, ``tiff`` reads TIFF, ``heif`` HEIC, and ``opencv_reader`` all others, with what OpenCV
gets wrong done beside it. All give :class:`xpcnn.data.pixels.Pixels`, upright.
"""
