import numpy as np

from xpcnn.data.opencv import load_opencv
from xpcnn.data.pixels import Pixels, Refusal


def read_with_opencv(content, kind, page=0, channels_as_they_are=False):
    cv2 = load_opencv()
    try:
        p = cv2.imdecode(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise Refusal(f"OpenCV refuses it ({' '.join(error.err.split())})") from error
    if p is None:
        raise Refusal("it is truncated, damaged, or in no format that OpenCV knows")
    if p.ndim == 2:
        return Pixels(p[:, :, np.newaxis], "grey")
    return Pixels(p[:, :, ::-1], "rgb")
