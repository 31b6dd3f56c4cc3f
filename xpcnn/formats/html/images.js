// From pixels to the network's input, with the command's own arithmetic: xpcnn/data/picture.py, resizing.py and
// preprocessing.py. Pixels are { height, width, channels, data }, data (row, column, channel) in 8 bits.

/** Round halves to even, as Python and OpenCV do. */
function roundHalfEven(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

const pixelsOf = (height, width, channels) =>
  ({ height, width, channels, data: new Uint8ClampedArray(height * width * channels) });

/** Return pixels in one channel or in three. */
function withChannels(pixels, channels) {
  if (pixels.channels === channels) return pixels;
  const made = pixelsOf(pixels.height, pixels.width, channels), { data } = pixels;
  if (channels === 3) {
    made.data.forEach((_, at) => { made.data[at] = data[Math.floor(at / 3)]; });
  } else {  // 0.299 R + 0.587 G + 0.114 B in the fixed point of OpenCV
    for (let to = 0, at = 0; to < made.data.length; to++, at += 3) {
      made.data[to] = (9798 * data[at] + 19235 * data[at + 1] + 3735 * data[at + 2] + 16384) >> 15;
    }
  }
  return made;
}

/** Return pixels of the size, stretched, cropped or padded. */
function resized(pixels, height, width, resizing) {
  if (pixels.height === height && pixels.width === width) return pixels;
  if (resizing === "crop") return stretched(cropped(pixels, height, width), height, width);
  return resizing === "pad" ? paddedTo(pixels, height, width) : stretched(pixels, height, width);
}

const fitting = (size, other, numerator, denominator) =>
  Math.min(size, Math.max(1, roundHalfEven((other * numerator) / denominator)));

function cropped(pixels, height, width) {
  const rows = fitting(pixels.height, pixels.width, height, width);
  const columns = fitting(pixels.width, pixels.height, width, height);
  const top = Math.floor((pixels.height - rows) / 2), left = Math.floor((pixels.width - columns) / 2);
  return gathered(pixels, rows, columns, (row) => top + row, (column) => left + column);
}

function paddedTo(pixels, height, width) {
  const rows = fitting(height, pixels.height, width, pixels.width);
  const columns = fitting(width, pixels.width, height, pixels.height);
  const inner = stretched(pixels, rows, columns);
  const above = Math.floor((height - rows) / 2), before = Math.floor((width - columns) / 2);
  const inside = (at, size) => Math.min(Math.max(at, 0), size - 1);
  return gathered(inner, height, width, (row) => inside(row - above, rows), (column) => inside(column - before, columns));
}

/** Return pixels whose rows and columns are those that two functions choose. */
function gathered(pixels, rows, columns, rowOf, columnOf) {
  const { channels } = pixels, made = pixelsOf(rows, columns, channels);
  for (let row = 0, to = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (rowOf(row) * pixels.width + columnOf(column)) * channels;
      for (let c = 0; c < channels; c++) made.data[to++] = pixels.data[from + c];
    }
  }
  return made;
}

/** Shrink by area where the picture is too large, then enlarge linearly where it is too small. */
function stretched(pixels, height, width) {
  const shrunk = byArea(pixels, Math.min(pixels.height, height), Math.min(pixels.width, width));
  return linearly(shrunk, height, width);
}

/** For each cell after shrinking, the first cell that it covers and the shares of it and of the next ones. */
function shares(size, count) {
  const scale = size / count;
  return Array.from({ length: count }, (_, i) => {
    const start = i * scale, end = start + scale, cell = Math.min(scale, size - start);
    const last = Math.min(Math.floor(end), size - 1), first = Math.min(Math.ceil(start), last);
    const parts = Array(last - first).fill(1 / cell);
    const starts = first - start > 1e-3;
    if (starts) parts.unshift((first - start) / cell);
    if (end - last > 1e-3) parts.push(Math.min(end - last, 1, cell) / cell);
    return { first: starts ? first - 1 : first, parts: Float32Array.from(parts) };
  });
}

function byArea(pixels, height, width) {
  if (pixels.height === height && pixels.width === width) return pixels;
  const { channels, data } = pixels, made = pixelsOf(height, width, channels);
  const down = shares(pixels.height, height), across = shares(pixels.width, width);
  const halves = pixels.height === 2 * height && pixels.width === 2 * width;  // which OpenCV rounds up
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < down[row].parts.length; i++) {
          let at = ((down[row].first + i) * pixels.width + across[column].first) * channels + c, line = 0;
          for (const share of across[column].parts) { line += share * data[at]; at += channels; }
          sum += down[row].parts[i] * line;
        }
        made.data[to++] = halves ? Math.floor(sum + 0.5) : roundHalfEven(sum);
      }
    }
  }
  return made;
}

/** For each cell after enlarging, the two cells between which it is and their weights in 11 bits. */
function between(size, count) {
  const scale = size / count;
  return Array.from({ length: count }, (_, i) => {
    const place = Math.fround((i + 0.5) * scale - 0.5);
    let first = Math.floor(place), part = Math.fround(place - first);
    if (first < 0) [first, part] = [0, 0];
    if (first >= size - 1) [first, part] = [size - 1, 0];
    return [first, Math.min(first + 1, size - 1), roundHalfEven((1 - part) * 2048), roundHalfEven(part * 2048)];
  });
}

function linearly(pixels, height, width) {
  if (pixels.height === height && pixels.width === width) return pixels;
  const { channels, data } = pixels, made = pixelsOf(height, width, channels);
  const down = between(pixels.height, height), across = between(pixels.width, width);
  let to = 0;
  for (const [top, bottom, u, v] of down) {
    for (const [left, right, p, q] of across) {
      for (let c = 0; c < channels; c++) {
        const on = (row) => (p * data[(row * pixels.width + left) * channels + c] + q * data[(row * pixels.width + right) * channels + c]) >> 4;
        made.data[to++] = (((u * on(top)) >> 16) + ((v * on(bottom)) >> 16) + 2) >> 2;
      }
    }
  }
  return made;
}

/** Return pixels of the model's size and channels. */
const decoded = (pixels, { height, width, channels, resizing }) =>
  resized(withChannels(pixels, channels), height, width, resizing);

/** Return the network's input: (channel, row, column), normalised. */
function normalized({ height, width, channels, data }, { mean, std, perImage }) {
  const size = height * width, x = new Float32Array(data.length);
  data.forEach((value, at) => { x[(at % channels) * size + Math.floor(at / channels)] = value; });
  if (!perImage) return x.map((value, at) => Math.fround(value - Math.fround(mean[Math.floor(at / size)])) / Math.fround(std[Math.floor(at / size)]));
  const average = x.reduce((sum, value) => sum + value, 0) / x.length;
  const centred = x.map((value) => value - Math.fround(average));
  const deviation = Math.sqrt(centred.reduce((sum, value) => sum + value * value, 0) / x.length);
  const varies = deviation > 2 ** -23 * average + 2 ** -126;
  return centred.map((value) => value / (varies ? deviation : 1));
}
