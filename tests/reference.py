"""The oracle: every operation from its textbook definition, one position at a time, in float64.

Deliberately slow, and sharing nothing with the library: no strided views, no matrix products, no padded arrays. Images
are (batch, channels, height, width); a stride, a dilation or a size is (rows, columns); padding is ((top, bottom),
(left, right)). Gradients follow the same loops: each output cell's gradient goes back to the input cells it came from.
"""

import itertools
import math

import numpy as np

NO_PADDING = ((0, 0), (0, 0))


def positions(*sizes):
    """Every index of an array of this shape, in row-major order."""
    return itertools.product(*map(range, sizes))


def output_size(size, kernel, stride, padding, dilation=1):
    """How often a kernel fits along one axis; what is left over at the end is not used."""
    return (size + padding[0] + padding[1] - dilation * (kernel - 1) - 1) // stride + 1


def source(position, size, padding_mode):
    """The input row (or column) that a padded position reads; None where zeros were padded."""
    if padding_mode == "edge":
        return min(max(position, 0), size - 1)
    return position if 0 <= position < size else None


def _taps(x_shape, weight_shape, stride, padding, padding_mode, dilation, groups):
    """Every product in a convolution, as (output cell, weight cell, input cell)."""
    batch, _, height, width = x_shape
    filters, group_channels, kernel_rows, kernel_columns = weight_shape
    rows = output_size(height, kernel_rows, stride[0], padding[0], dilation[0])
    columns = output_size(width, kernel_columns, stride[1], padding[1], dilation[1])
    for n, f, i, j in positions(batch, filters, rows, columns):
        group = f // (filters // groups)
        for c, a, b in positions(group_channels, kernel_rows, kernel_columns):
            row = source(i * stride[0] - padding[0][0] + a * dilation[0], height, padding_mode)
            column = source(j * stride[1] - padding[1][0] + b * dilation[1], width, padding_mode)
            if row is not None and column is not None:
                yield (n, f, i, j), (f, c, a, b), (n, group * group_channels + c, row, column)


def conv2d(
    x,
    weight,
    bias=None,
    stride=(1, 1),
    padding=NO_PADDING,
    padding_mode="zeros",
    dilation=(1, 1),
    groups=1,
):
    """Cross-correlation with a bias; weight is (filters, channels / groups, rows, columns)."""
    rows = output_size(x.shape[2], weight.shape[2], stride[0], padding[0], dilation[0])
    columns = output_size(x.shape[3], weight.shape[3], stride[1], padding[1], dilation[1])
    y = np.zeros((len(x), len(weight), rows, columns))
    for n, f, i, j in positions(*y.shape):
        y[n, f, i, j] = 0.0 if bias is None else bias[f]
    for to, tap, cell in _taps(x.shape, weight.shape, stride, padding, padding_mode, dilation, groups):
        y[to] += weight[tap] * x[cell]
    return y


def conv2d_gradients(dy, x, weight, stride=(1, 1), padding=NO_PADDING, padding_mode="zeros", dilation=(1, 1), groups=1):
    """Return the gradients of input, weight and bias."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for to, tap, cell in _taps(x.shape, weight.shape, stride, padding, padding_mode, dilation, groups):
        dx[cell] += weight[tap] * dy[to]
        dweight[tap] += x[cell] * dy[to]
    for n, f, i, j in positions(*dy.shape):
        dbias[f] += dy[n, f, i, j]
    return dx, dweight, dbias


def _windows(shape, size, stride, padding):
    """Every output cell of a pool with the input cells it sees, padding left out, in row order."""
    batch, channels, height, width = shape
    rows = output_size(height, size[0], stride[0], padding[0])
    columns = output_size(width, size[1], stride[1], padding[1])
    for n, c, i, j in positions(batch, channels, rows, columns):
        top, left = i * stride[0] - padding[0][0], j * stride[1] - padding[1][0]
        seen = [(n, c, top + a, left + b) for a, b in positions(*size)]
        yield (n, c, i, j), [cell for cell in seen if 0 <= cell[2] < height and 0 <= cell[3] < width]


def pool2d(x, kind, size, stride, padding=NO_PADDING):
    """``kind`` is "max", "min" or "average"; padding is never an extreme nor part of the mean."""
    rows = output_size(x.shape[2], size[0], stride[0], padding[0])
    columns = output_size(x.shape[3], size[1], stride[1], padding[1])
    y = np.zeros((*x.shape[:2], rows, columns))
    combine = {"max": max, "min": min, "average": lambda values: math.fsum(values) / len(values)}[kind]
    for to, cells in _windows(x.shape, size, stride, padding):
        y[to] = combine([x[cell] for cell in cells])
    return y


def pool2d_gradient(dy, x, kind, size, stride, padding=NO_PADDING):
    """Return the input's gradient; of equal extremes the first in row order takes it all."""
    dx = np.zeros(x.shape)
    for to, cells in _windows(x.shape, size, stride, padding):
        if kind == "average":
            for cell in cells:
                dx[cell] += dy[to] / len(cells)
        else:
            extreme = {"max": max, "min": min}[kind](x[cell] for cell in cells)
            dx[next(cell for cell in cells if x[cell] == extreme)] += dy[to]
    return dx


def upsample2d(x, size):
    """Nearest neighbour: every cell becomes a block of ``size`` cells."""
    y = np.zeros((*x.shape[:2], x.shape[2] * size[0], x.shape[3] * size[1]))
    for n, c, i, j in positions(*y.shape):
        y[n, c, i, j] = x[n, c, i // size[0], j // size[1]]
    return y


def upsample2d_gradient(dy, size):
    """Return the input's gradient, the sum over each block."""
    dx = np.zeros((*dy.shape[:2], dy.shape[2] // size[0], dy.shape[3] // size[1]))
    for n, c, i, j in positions(*dy.shape):
        dx[n, c, i // size[0], j // size[1]] += dy[n, c, i, j]
    return dx


def dense(x, weight, bias=None):
    """y = x Wᵀ + b; x is (batch, features), weight (units, features)."""
    y = np.zeros((len(x), len(weight)))
    for n, u in positions(*y.shape):
        y[n, u] = 0.0 if bias is None else bias[u]
        for k in range(x.shape[1]):
            y[n, u] += x[n, k] * weight[u, k]
    return y


def dense_gradients(dy, x, weight):
    """Return the gradients of input, weight and bias."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for n, u in positions(*dy.shape):
        dbias[u] += dy[n, u]
        for k in range(x.shape[1]):
            dx[n, k] += dy[n, u] * weight[u, k]
            dweight[u, k] += dy[n, u] * x[n, k]
    return dx, dweight, dbias


def _channel(x, c):
    """Every index of one channel, for (batch, channels) and (batch, channels, height, width)."""
    return [(cell[0], c, *cell[1:]) for cell in positions(x.shape[0], *x.shape[2:])]


def batch_norm(x, weight, bias, epsilon=1e-5):
    """Return (y, mean, variance) in training mode; the variance is the biased one that normalises.

    S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015, algorithm 1.
    """
    y, mean, variance = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        cells = _channel(x, c)
        mean[c] = math.fsum(x[cell] for cell in cells) / len(cells)
        variance[c] = math.fsum((x[cell] - mean[c]) ** 2 for cell in cells) / len(cells)
        for cell in cells:
            y[cell] = weight[c] * (x[cell] - mean[c]) / math.sqrt(variance[c] + epsilon) + bias[c]
    return y, mean, variance


def batch_norm_gradients(dy, x, weight, epsilon=1e-5):
    """Return the gradients of input, weight and bias, by the chain of the same paper's section 3."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        cells = _channel(x, c)
        mean = math.fsum(x[cell] for cell in cells) / len(cells)
        variance = math.fsum((x[cell] - mean) ** 2 for cell in cells) / len(cells)
        deviation = math.sqrt(variance + epsilon)
        dvariance = dmean = 0.0
        for cell in cells:
            dweight[c] += dy[cell] * (x[cell] - mean) / deviation
            dbias[c] += dy[cell]
            dvariance -= dy[cell] * weight[c] * (x[cell] - mean) / (2 * deviation**3)
            dmean -= dy[cell] * weight[c] / deviation
        for cell in cells:
            dx[cell] = dy[cell] * weight[c] / deviation
            dx[cell] += dvariance * 2 * (x[cell] - mean) / len(cells) + dmean / len(cells)
    return dx, dweight, dbias


def softmax(x):
    """exp(x_c) / Σ exp(x_k) over axis 1, of each row or each position of an image."""
    y = np.zeros(x.shape)
    for n, *place in positions(x.shape[0], *x.shape[2:]):
        cells = [(n, c, *place) for c in range(x.shape[1])]
        largest = max(x[cell] for cell in cells)
        total = math.fsum(math.exp(x[cell] - largest) for cell in cells)
        for cell in cells:
            y[cell] = math.exp(x[cell] - largest) / total
    return y


def softmax_gradient(dy, x):
    """Return the input's gradient by the full Jacobian, ∂y_k/∂x_c = y_k (δ_kc - y_c)."""
    y, dx = softmax(x), np.zeros(x.shape)
    for n, *place in positions(x.shape[0], *x.shape[2:]):
        for c, k in positions(x.shape[1], x.shape[1]):
            jacobian = y[n, k, *place] * ((k == c) - y[n, c, *place])
            dx[n, c, *place] += jacobian * dy[n, k, *place]
    return dx


def numerical_gradient(f, x, epsilon=1e-6):
    """Return the central differences of the number ``f(x)``; ``x`` is changed in place meanwhile."""
    assert x.dtype == np.float64, f"numerical gradients need float64. Received: {x.dtype}."
    gradient = np.zeros(x.shape)
    for cell in positions(*x.shape):
        kept = x[cell]
        x[cell] = kept + epsilon
        above = float(f(x))
        x[cell] = kept - epsilon
        below = float(f(x))
        x[cell] = kept
        gradient[cell] = (above - below) / (2 * epsilon)
    return gradient
