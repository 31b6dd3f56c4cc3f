// From a file to its pixels, or to the reason why there are none.

/** Why a file cannot be read, to follow "cannot be read: ". */
class Refusal extends Error {}

const MOST_BYTES = 2 ** 28, MOST_PIXELS = 2 ** 26, TILE = 2048;

/** What files begin with; those that are not read, with their names. */
const BEGINNINGS = [
  ["png", /^\x89PNG\r\n\x1a\n/],
  ["jpeg", /^\xff\xd8\xff/],
  ["webp", /^RIFF[^]{4}WEBP/],
  ["gif", /^GIF8[79]a/],
  ["bmp", /^BM[^]{4}\0{4}|^BM[^]{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}/],
  ["a TIFF", /^(II[*+]\0|MM\0[*+])/],
  ["a HEIC", /^[^]{4}ftyp(hei|hev|mif1|msf1)/],
  ["an AVIF", /^[^]{4}ftypavi[fs]/],
  ["a JPEG 2000", /^(\0\0\0\x0cjP  |\xff\x4f\xff\x51)/],
  ["a JPEG XL", /^(\xff\x0a|\0\0\0\x0cJXL )/],
  ["an SVG drawing", /^\s*(<\?xml[^>]*>\s*)?<svg/],
  ["a PDF document", /^%PDF-/],
  ["a ZIP archive", /^PK\x03\x04/],
  ["a video", /^[^]{4}ftyp/],
];

function requireSize(width, height) {
  if (width < 1 || height < 1) throw new Refusal(DAMAGED);
  if (width * height > MOST_PIXELS) {
    const [has, most] = [width * height, MOST_PIXELS].map((pixels) => pixels.toLocaleString("en"));
    throw new Refusal(`it has ${width} x ${height} pixels, ${has} in all, and this page reads up to ${most}: make it smaller`);
  }
}

/** Return the pixels of a file, in one channel or in three. */
async function read(file) {
  if (!file) throw new Refusal("the browser does not open it when it is dropped: choose it with a button");
  if (file.size === 0) throw new Refusal("it is empty");
  if (file.size > MOST_BYTES) throw new Refusal("it is larger than 256 MiB, the most that this page reads");
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Refusal("the browser cannot open it: it has been moved, removed or changed, or you may not read it");
  }
  const beginning = String.fromCharCode(...bytes.subarray(0, 256));
  const [kind] = BEGINNINGS.find(([, pattern]) => pattern.test(beginning)) ?? [];
  if (!kind) throw new Refusal("it is not a picture that this page knows: use PNG, JPEG, WebP, GIF or BMP");
  if (kind.includes(" ")) throw new Refusal(`it is ${kind}, which this page does not read: save it as PNG or JPEG`);
  if (kind === "png") return readPng(bytes);
  if (kind === "jpeg") requireReadableJpeg(bytes);
  return drawn(file);
}

/** Throw for a JPEG that is cut off, and for one whose colours browsers and xpcnn may turn into other pixels. */
function requireReadableJpeg(bytes) {
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1], length = 256 * bytes[at + 2] + bytes[at + 3];
    if (marker === 0xff) { at++; continue; }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      requireSize(256 * bytes[at + 7] + bytes[at + 8], 256 * bytes[at + 5] + bytes[at + 6]);
      if (bytes[at + 9] === 4) throw new Refusal("it is a JPEG in CMYK, for printing: save it as RGB");
    }
    if (marker === 0xda) {
      for (let end = bytes.length - 1; end > at; end--) if (bytes[end] === 0xd9 && bytes[end - 1] === 0xff) return;
      break;
    }
    at += 2 + length;
  }
  throw new Refusal(DAMAGED);
}

/** Whether a canvas gives back the pixels that it was given, which some browsers avoid, to protect privacy. */
function canvasIsFaithful() {
  const image = new ImageData(16, 16);
  image.data.forEach((_, at) => { image.data[at] = at % 4 === 3 ? 255 : (at * 37) % 256; });
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  context.putImageData(image, 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((value, at) => value === image.data[at]);
}

/** Return the pixels that the browser decodes: at full size, in the colours of the file. */
async function drawn(file) {
  if (!canvasIsFaithful()) {
    throw new Refusal("this browser alters the pixels that pages read, to protect privacy: use PNG, or another browser");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Refusal("the browser cannot decode it: it is damaged, or of a kind that the browser does not know");
  }
  const { height, width } = bitmap;
  try {
    requireSize(width, height);
    const made = pixelsOf(height, width, 3);
    const canvas = new OffscreenCanvas(Math.min(TILE, width), Math.min(TILE, height));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < height; top += TILE) {
      for (let left = 0; left < width; left += TILE) {
        context.clearRect(0, 0, TILE, TILE);
        context.drawImage(bitmap, -left, -top);
        copyOpaque(context.getImageData(0, 0, canvas.width, canvas.height), made, top, left);
      }
    }
    return made;
  } finally {
    bitmap.close();
  }
}

function copyOpaque({ data, width }, made, top, left) {
  const rows = Math.min(TILE, made.height - top), columns = Math.min(TILE, made.width - left);
  for (let row = 0; row < rows; row++) {
    let to = ((top + row) * made.width + left) * 3;
    for (let at = row * width * 4, end = at + columns * 4; at < end; at += 4) {
      if (data[at + 3] !== 255) {
        throw new Refusal("it has transparent pixels, whose colours the browser does not tell: save it as PNG");
      }
      for (let c = 0; c < 3; c++) made.data[to++] = data[at + c];
    }
  }
}
