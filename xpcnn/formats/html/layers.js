// Each kind of layer: forward(node, inputs) returns the output; backward(node, dy, inputs, y) a gradient of each input.

const volume = (shape) => shape.reduce((product, size) => product * size, 1);

/** Return the row (or column) of the image at each one of the padded image: -1 outside, or the nearest with ``edge``. */
function sources(size, [before, after], edge) {
  return Int32Array.from({ length: before + size + after }, (_, i) => {
    const at = i - before;
    if (at >= 0 && at < size) return at;
    return edge ? Math.min(Math.max(at, 0), size - 1) : -1;
  });
}

/** Call a function with each cell of the padded images and the cell of the images there, or -1. */
function eachPadded([channels, height, width], padding, edge, take) {
  const down = sources(height, padding[0], edge), across = sources(width, padding[1], edge);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (const row of down) {
      for (const column of across) take(at++, row < 0 || column < 0 ? -1 : (c * height + row) * width + column);
    }
  }
}

/** The size of the padded images. */
const grown = ([channels, height, width], [[top, bottom], [left, right]]) =>
  [channels, top + height + bottom, left + width + right];

function padded(x, shape, padding, fill, edge = false) {
  const [channels, height, width] = shape, whole = grown(shape, padding);
  if (volume(whole) === x.length) return x;
  const y = new Float32Array(volume(whole)).fill(fill);
  if (edge) {
    eachPadded(shape, padding, edge, (at, from) => { y[at] = x[from]; });
    return y;
  }
  for (let c = 0; c < channels; c++) {
    for (let r = 0, from = c * height * width; r < height; r++, from += width) {
      y.set(x.subarray(from, from + width), (c * whole[1] + padding[0][0] + r) * whole[2] + padding[1][0]);
    }
  }
  return y;
}

function unpadded(dy, shape, padding, edge = false) {
  const dx = new Float32Array(volume(shape));
  eachPadded(shape, padding, edge, (at, from) => { if (from >= 0) dx[from] += dy[at]; });
  return dx;
}

const UNPADDED = [[0, 0], [0, 0]];
const isPadded = (padding) => padding.flat().some((size) => size > 0);

/** A convolution's sizes; one of single cells sees all rows as one, which is faster. */
function geometry(node) {
  const { kernel, strides, padding, dilation } = node.window;
  const [, height, width] = grown(node.from, padding);
  const [, rows, columns] = node.shape;
  const single = [...kernel, ...strides].every((size) => size === 1) && !isPadded(padding);
  const sizes = single ? { rows: 1, columns: rows * columns, height: 1, width: height * width } : { rows, columns, height, width };
  return { ...sizes, kh: kernel[0], kw: kernel[1], sy: strides[0], sx: strides[1], dy: dilation[0], dx: dilation[1] };
}

/** Call a function for each row of each filter's output with each weight that it sees, and where its cells begin. */
function eachRow(node, g, together, take) {
  const [filters] = node.shape, channels = node.from[0] / node.groups, inGroup = filters / node.groups;
  for (let k = 0; k < filters; k += together) {
    const first = Math.floor(k / inGroup) * channels;
    for (let r = 0; r < g.rows; r++) {
      for (let c = 0; c < channels; c++) {
        for (let i = 0; i < g.kh; i++) {
          const line = ((first + c) * g.height + r * g.sy + i * g.dy) * g.width;
          for (let j = 0; j < g.kw; j++) {
            take((k * g.rows + r) * g.columns, ((k * channels + c) * g.kh + i) * g.kw + j, line + j * g.dx);
          }
        }
      }
    }
  }
}

/** Where the cells that a filter sees are, from the first of them. */
function cellsSeen(g, channels) {
  const cells = new Int32Array(channels * g.kh * g.kw);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < g.kh; i++) for (let j = 0; j < g.kw; j++) cells[at++] = (c * g.height + i * g.dy) * g.width + j * g.dx;
  }
  return cells;
}

/** The weights of each ``together`` filters side by side, in double precision, which is what numbers are computed in. */
function sideBySide(weight, filters, together) {
  const each = weight.length / filters, y = new Float64Array(weight.length);
  for (let k = 0, at = 0; k < filters; k += together) {
    for (let w = k * each; w < (k + 1) * each; w++) for (let f = 0; f < together; f++) y[at++] = weight[w + f * each];
  }
  return y;
}

function convolve(node, [images]) {
  const g = geometry(node), x = padded(images, node.from, node.window.padding, 0, node.edge);
  const [filters] = node.shape, channels = node.from[0] / node.groups, inGroup = filters / node.groups;
  const together = inGroup % 4 === 0 ? 4 : 1;
  node.cells ??= cellsSeen(g, channels);
  node.weights ??= sideBySide(node.weight, filters, together);
  const y = new Float32Array(filters * g.rows * g.columns);
  for (let k = 0; k < filters; k += together) {
    const plane = Math.floor(k / inGroup) * channels * g.height * g.width;
    (together === 4 ? fourFilters : oneFilter)(node, g, x, plane, k, y);
  }
  return y;
}

/** Write the outputs of filters k to k + 3, two columns at a time, so that their eight sums stay in registers. */
function fourFilters({ cells, weights, bias }, g, x, plane, k, y) {
  const size = g.rows * g.columns, first = k * cells.length;
  const b0 = bias ? bias[k] : 0, b1 = bias ? bias[k + 1] : 0, b2 = bias ? bias[k + 2] : 0, b3 = bias ? bias[k + 3] : 0;
  for (let r = 0; r < g.rows; r++) {
    for (let p = 0; p < g.columns; p += 2) {
      const next = p + 1 < g.columns ? 1 : 0, step = next * g.sx;  // an odd last column is computed twice
      const from = plane + r * g.sy * g.width + p * g.sx;
      let s0 = b0, s1 = b1, s2 = b2, s3 = b3, t0 = b0, t1 = b1, t2 = b2, t3 = b3;
      for (let cell = 0, w = first; cell < cells.length; cell++, w += 4) {
        const at = from + cells[cell], one = x[at], other = x[at + step];
        const w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2], w3 = weights[w + 3];
        s0 += w0 * one;
        s1 += w1 * one;
        s2 += w2 * one;
        s3 += w3 * one;
        t0 += w0 * other;
        t1 += w1 * other;
        t2 += w2 * other;
        t3 += w3 * other;
      }
      const to = k * size + r * g.columns + p;
      y[to] = s0;
      y[to + size] = s1;
      y[to + 2 * size] = s2;
      y[to + 3 * size] = s3;
      y[to + next] = t0;
      y[to + size + next] = t1;
      y[to + 2 * size + next] = t2;
      y[to + 3 * size + next] = t3;
    }
  }
}

/** Write the outputs of filter k. */
function oneFilter({ cells, weights, bias }, g, x, plane, k, y) {
  const first = k * cells.length;
  for (let r = 0; r < g.rows; r++) {
    for (let p = 0; p < g.columns; p++) {
      const from = plane + r * g.sy * g.width + p * g.sx;
      let sum = bias ? bias[k] : 0;
      for (let cell = 0; cell < cells.length; cell++) sum += weights[first + cell] * x[from + cells[cell]];
      y[(k * g.rows + r) * g.columns + p] = sum;
    }
  }
}

function convolveBack(node, dy) {
  const g = geometry(node), { padding } = node.window, { weight } = node;
  const dx = new Float32Array(volume(grown(node.from, padding)));
  eachRow(node, g, 1, (to, w, from) => {
    for (let p = 0, at = from; p < g.columns; p++, at += g.sx) dx[at] += weight[w] * dy[to + p];
  });
  return [isPadded(padding) ? unpadded(dx, node.from, padding, node.edge) : dx];
}

/** Return the first cell with the largest value (or the smallest, for sign -1) of each window, among padded cells. */
function winners(node, x, sign) {
  const { strides, padding, kernel: [kh, kw] } = node.window, [channels, rows, columns] = node.shape;
  const [, height, width] = grown(node.from, padding), found = new Int32Array(volume(node.shape));
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let r = 0; r < rows; r++) {
      for (let p = 0; p < columns; p++) {
        const first = (c * height + r * strides[0]) * width + p * strides[1];
        let best = first;
        for (let i = 0; i < kh; i++) {
          for (let cell = first + i * width; cell < first + i * width + kw; cell++) {
            if (sign * x[cell] > sign * x[best]) best = cell;
          }
        }
        found[at++] = best;
      }
    }
  }
  return found;
}

const extremePool = (sign) => ({
  forward(node, [images]) {
    const x = padded(images, node.from, node.window.padding, -sign * Infinity);
    const cells = winners(node, x, sign), y = new Float32Array(cells.length);
    for (let at = 0; at < y.length; at++) y[at] = x[cells[at]];
    return y;
  },
  backward(node, dy, [images]) {
    const { padding } = node.window, x = padded(images, node.from, padding, -sign * Infinity);
    const dx = new Float32Array(x.length);
    winners(node, x, sign).forEach((cell, at) => { dx[cell] += dy[at]; });
    return [unpadded(dx, node.from, padding)];
  },
});

/** Call a function for each window of an average and each cell inside the image, with the share of the cell. */
function eachShare(node, take) {
  const [channels, height, width] = node.from, [, rows, columns] = node.shape;
  const spans = (size, count, along) => Array.from({ length: count }, (_, i) => {
    if (!node.window) return [Math.floor((i * size) / count), Math.ceil(((i + 1) * size) / count)];
    const first = i * node.window.strides[along] - node.window.padding[along][0];
    return [Math.max(first, 0), Math.min(first + node.window.kernel[along], size)];
  });
  const down = spans(height, rows, 0), across = spans(width, columns, 1);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (const [top, bottom] of down) {
      for (const [left, right] of across) {
        const share = 1 / ((bottom - top) * (right - left));
        for (let r = top; r < bottom; r++) {
          for (let p = left; p < right; p++) take(at, (c * height + r) * width + p, share);
        }
        at++;
      }
    }
  }
}

const averagePool = {
  forward(node, [x]) {
    const y = new Float64Array(volume(node.shape));
    eachShare(node, (at, cell, share) => { y[at] += share * x[cell]; });
    return Float32Array.from(y);
  },
  backward(node, dy, [x]) {
    const dx = new Float32Array(x.length);
    eachShare(node, (at, cell, share) => { dx[cell] += share * dy[at]; });
    return [dx];
  },
};

const dense = {
  forward(node, [x]) {
    return new Float32Array(node.shape[0]).map((_, k) => {
      let sum = node.bias ? node.bias[k] : 0;
      for (let c = 0, at = k * x.length; c < x.length; c++, at++) sum += node.weight[at] * x[c];
      return sum;
    });
  },
  backward(node, dy, [x]) {
    const dx = new Float32Array(x.length);
    dy.forEach((value, k) => { for (let c = 0; c < x.length; c++) dx[c] += value * node.weight[k * x.length + c]; });
    return [dx];
  },
};

const upsample = {
  from(node, at) {
    const [, height, width] = node.from, [, rows, columns] = node.shape, [down, across] = node.size;
    const row = Math.floor(at / columns);
    return (Math.floor(row / rows) * height + Math.floor((row % rows) / down)) * width + Math.floor((at % columns) / across);
  },
  forward: (node, [x]) => new Float32Array(volume(node.shape)).map((_, at) => x[upsample.from(node, at)]),
  backward(node, dy, [x]) {
    const dx = new Float32Array(x.length);
    dy.forEach((value, at) => { dx[upsample.from(node, at)] += value; });
    return [dx];
  },
};

/** How many cells each of ``count`` equal parts of an array has. */
const part = (x, count) => x.length / count;

const affine = {
  forward(node, [x]) {
    const size = part(x, node.scale.length);
    return x.map((value, at) => value * node.scale[Math.floor(at / size)] + node.shift[Math.floor(at / size)]);
  },
  backward(node, dy) {
    const size = part(dy, node.scale.length);
    return [dy.map((value, at) => value * node.scale[Math.floor(at / size)])];
  },
};

/** Softmax over the channels at each place. */
const softmaxLayer = {
  each(node, take) {
    const [channels, ...place] = node.shape, size = volume(place);
    for (let p = 0; p < size; p++) take(Array.from({ length: channels }, (_, c) => c * size + p));
  },
  forward(node, [x]) {
    const y = new Float32Array(x.length);
    softmaxLayer.each(node, (cells) => softmax(cells.map((cell) => x[cell])).forEach((p, c) => { y[cells[c]] = p; }));
    return y;
  },
  backward(node, dy, inputs, y) {
    const dx = new Float32Array(y.length);
    softmaxLayer.each(node, (cells) => {
      const total = cells.reduce((sum, cell) => sum + dy[cell] * y[cell], 0);
      for (const cell of cells) dx[cell] = y[cell] * (dy[cell] - total);
    });
    return [dx];
  },
};

const elementwise = (f, slope) => ({
  forward(node, [x]) {
    const y = new Float32Array(x.length);
    for (let at = 0; at < x.length; at++) y[at] = f(x[at], node);
    return y;
  },
  backward: (node, dy, [x], y) => [dy.map((value, at) => value * slope(x[at], y[at], node))],
});

/** ReLU and ReLU6, which most images pass most often, in a loop of their own; what is not a number stays so. */
const bounded = (name, high) => ({
  ...elementwise(...ACTIVATIONS[name]),
  forward(node, [x]) {
    const y = new Float32Array(x.length);
    for (let at = 0; at < x.length; at++) y[at] = Math.min(Math.max(x[at], 0), high);  // without branches
    return y;
  },
});

const multiply = {
  forward(node, [x, factor]) {
    const size = part(x, factor.length), y = new Float32Array(x.length);
    for (let c = 0, at = 0; c < factor.length; c++) {
      for (const stop = at + size; at < stop; at++) y[at] = x[at] * factor[c];
    }
    return y;
  },
  backward(node, dy, [x, factor]) {
    const size = part(x, factor.length), dfactor = new Float32Array(factor.length);
    dy.forEach((value, at) => { dfactor[Math.floor(at / size)] += value * x[at]; });
    return [multiply.forward(node, [dy, factor]), dfactor];
  },
};

const concatenate = {
  forward(node, inputs) {
    const y = new Float32Array(volume(node.shape));
    let start = 0;
    for (const x of inputs) { y.set(x, start); start += x.length; }
    return y;
  },
  backward(node, dy, inputs) {
    let start = 0;
    return inputs.map((x) => dy.slice(start, (start += x.length)));
  },
};

/** By the name that program.py gives. */
const KINDS = {
  convolution: { forward: convolve, backward: convolveBack },
  dense,
  max_pool: extremePool(1),
  min_pool: extremePool(-1),
  average_pool: averagePool,
  global_max_pool: {
    largest: (x, size, c) => { let best = c * size; for (let at = best; at < (c + 1) * size; at++) if (x[at] > x[best]) best = at; return best; },
    forward: (node, [x]) => new Float32Array(node.shape[0]).map((_, c) => x[KINDS.global_max_pool.largest(x, part(x, node.shape[0]), c)]),
    backward(node, dy, [x]) {
      const dx = new Float32Array(x.length);
      dy.forEach((value, c) => { dx[KINDS.global_max_pool.largest(x, part(x, dy.length), c)] = value; });
      return [dx];
    },
  },
  upsample,
  affine,
  same: { forward: (node, [x]) => x, backward: (node, dy) => [dy] },
  softmax: softmaxLayer,
  leaky_relu: elementwise((x, node) => (x > 0 ? x : node.slope * x), (x, y, node) => (x > 0 ? 1 : node.slope)),
  add: {
    forward(node, [first, ...others]) {
      const y = first.slice();
      for (const x of others) for (let at = 0; at < y.length; at++) y[at] += x[at];
      return y;
    },
    backward: (node, dy, inputs) => inputs.map(() => dy),
  },
  average: {
    forward: (node, inputs) => KINDS.add.forward(node, inputs).map((value) => value / inputs.length),
    backward: (node, dy, inputs) => { const each = dy.map((value) => value / inputs.length); return inputs.map(() => each); },
  },
  multiply,
  concatenate,
  ...Object.fromEntries(Object.entries(ACTIVATIONS).map(([name, both]) => [name, elementwise(...both)])),
  relu: bounded("relu", Infinity),
  relu6: bounded("relu6", 6),
};
