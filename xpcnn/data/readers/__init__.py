"""Readers of image files, chosen by content; each decodes a file correctly or refuses it.

``containers`` identifies the format, ``tiff`` reads TIFF, ``heif`` HEIC, and ``opencv_reader`` all others, with
corrections where OpenCV is wrong. All return :class:`xpcnn.data.pixels.Pixels`, upright.
"""
