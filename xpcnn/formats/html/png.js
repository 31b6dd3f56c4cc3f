// PNG, read here and not by the browser, which loses the colours of transparent pixels. Transparency is dropped, and
// palettes are looked up, as xpcnn does.

const PNG_SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
/** First row and column, and the steps between them, of the passes of an interlaced picture. */
const PASSES = [[0, 0, 8, 8], [0, 4, 8, 8], [4, 0, 8, 4], [0, 2, 4, 4], [2, 0, 4, 2], [0, 1, 2, 2], [1, 0, 2, 1]];
const DAMAGED = "it is truncated or damaged";

/** Return { name: [bytes, …] } of a PNG's chunks; throw if one is damaged, or the end is missing. */
function pngChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), chunks = {};
  let at = 8;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at), name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length || crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) break;
    (chunks[name] ??= []).push(bytes.subarray(at + 8, at + 8 + length));
    if (name === "IEND") return chunks;
    at += 12 + length;
  }
  throw new Refusal(DAMAGED);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

async function readPng(bytes) {
  const chunks = pngChunks(bytes), [header] = chunks.IHDR ?? [];
  if (!header || header.length !== 13 || !chunks.IDAT) throw new Refusal(DAMAGED);
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const width = view.getUint32(0), height = view.getUint32(4), [bits, type, , , interlaced] = header.subarray(8);
  const samples = PNG_SAMPLES[type], palette = chunks.PLTE?.[0];
  if (bits === 16) throw new Refusal("it has 16 bits a value, and this page reads 8: convert it to 8 bits");
  const fitting = type === 3 || type === 0 ? [1, 2, 4, 8] : [8];
  if (!samples || !fitting.includes(bits) || interlaced > 1 || (type === 3 && !palette)) throw new Refusal(DAMAGED);
  requireSize(width, height);
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]])
    .map(([top, left, down, across]) => ({ top, left, down, across, rows: Math.ceil((height - top) / down), columns: Math.ceil((width - left) / across) }))
    .filter(({ rows, columns }) => rows > 0 && columns > 0);
  const lineOf = ({ columns }) => 1 + Math.ceil((columns * bits * samples) / 8);
  const packed = await inflated(chunks.IDAT, passes.reduce((sum, pass) => sum + pass.rows * lineOf(pass), 0));
  const channels = type === 0 || type === 4 ? 1 : 3, made = pixelsOf(height, width, channels);
  const step = Math.max(1, (bits * samples) / 8), most = 2 ** bits - 1;
  let at = 0;
  for (const pass of passes) {
    const line = lineOf(pass);
    for (let row = 0; row < pass.rows; row++, at += line) {
      unfilter(packed, at, line, row > 0 ? at - line : -1, step);
      for (let column = 0; column < pass.columns; column++) {
        const to = ((pass.top + row * pass.down) * width + pass.left + column * pass.across) * channels;
        const bit = column * bits * samples, from = at + 1 + (bit >> 3);
        const value = (packed[from] >> (8 - bits - (bit & 7))) & most;
        if (type === 3 && 3 * value + 2 >= palette.length) throw new Refusal(DAMAGED);
        for (let c = 0; c < channels; c++) {
          if (type === 3) made.data[to + c] = palette[3 * value + c];
          else made.data[to + c] = type === 0 ? (value * 255) / most : packed[from + c];
        }
      }
    }
  }
  return upright(made, chunks.eXIf ? orientationOf(chunks.eXIf[0]) : 1);
}

/** Return the inflated bytes of chunks, which must be as many as expected. */
async function inflated(parts, expected) {
  const bytes = new Uint8Array(expected);
  let at = 0;
  try {
    const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let read = await reader.read(); !read.done && at < expected; read = await reader.read()) {
      bytes.set(read.value.subarray(0, expected - at), at);
      at += read.value.length;
    }
    reader.cancel().catch(() => {});
  } catch {
    throw new Refusal(DAMAGED);
  }
  if (at < expected) throw new Refusal(DAMAGED);
  return bytes;
}

/** Undo the filter of a line, given where the line above begins, or -1. */
function unfilter(bytes, start, length, above, step) {
  const filter = bytes[start];
  if (filter > 4) throw new Refusal(DAMAGED);
  for (let i = 1; i < length; i++) {
    const a = i > step ? bytes[start + i - step] : 0;
    const b = above < 0 ? 0 : bytes[above + i];
    const c = above < 0 || i <= step ? 0 : bytes[above + i - step];
    if (filter === 1) bytes[start + i] += a;
    if (filter === 2) bytes[start + i] += b;
    if (filter === 3) bytes[start + i] += (a + b) >> 1;
    if (filter === 4) {
      const p = a + b - c, da = Math.abs(p - a), db = Math.abs(p - b), dc = Math.abs(p - c);
      bytes[start + i] += da <= db && da <= dc ? a : db <= dc ? b : c;
    }
  }
}

/** Return the orientation, 1 to 8, in an EXIF block, with or without its prefix; 1 if there is none. */
function orientationOf(exif) {
  const start = exif[0] === 0x45 ? 6 : 0;
  const view = new DataView(exif.buffer, exif.byteOffset + start, Math.max(0, exif.length - start));
  try {
    const order = view.getUint32(0), little = order === 0x49492a00, first = view.getUint32(4, little);
    const entries = little || order === 0x4d4d002a ? view.getUint16(first, little) : 0;
    for (let at = first + 2; at < first + 2 + 12 * entries; at += 12) {
      const form = view.getUint16(at + 2, little);
      if (view.getUint16(at, little) !== 0x112 || (form !== 3 && form !== 4)) continue;
      const noted = form === 4 ? view.getUint32(at + 8, little) : view.getUint16(at + 8, little);
      return noted >= 1 && noted <= 8 ? noted : 1;
    }
  } catch { /* truncated: as if absent */ }
  return 1;
}

/** Return pixels rotated and mirrored from an EXIF orientation to upright. */
function upright(pixels, orientation) {
  if (orientation === 1) return pixels;
  const turned = orientation >= 5, { height, width, channels, data } = pixels;
  const made = turned ? pixelsOf(width, height, channels) : pixelsOf(height, width, channels);
  for (let row = 0, to = 0; row < made.height; row++) {
    for (let column = 0; column < made.width; column++) {
      const r = [3, 4, 7, 8].includes(orientation) ? made.height - 1 - row : row;
      const p = [2, 3, 6, 7].includes(orientation) ? made.width - 1 - column : column;
      const from = (turned ? p * width + r : r * width + p) * channels;
      for (let c = 0; c < channels; c++) made.data[to++] = data[from + c];
    }
  }
  return made;
}
