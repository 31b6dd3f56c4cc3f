// The part of the script that runs in a worker: one picture at a time, in the order in which they come.

function work() {
  let network, spec;

  async function answer({ file, label }) {
    const pixels = decoded(await read(file), spec.decoding);
    const x = normalized(pixels, spec.normalization);
    if (label !== undefined) return { map: network.explain(x, label) };
    const probabilities = network.probabilities(x);
    if (!probabilities.every(Number.isFinite)) throw new Refusal("the model's answer is not a number");
    return { probabilities, picture: await shown(pixels) };
  }

  self.onmessage = async ({ data }) => {
    if (data.spec) {
      spec = data.spec;
      network = new Network(spec, data.weights, data.numbers);
      self.postMessage({ ready: true });
      return;
    }
    try {
      self.postMessage(await answer(data));
    } catch (error) {
      const reason = error instanceof Refusal ? error.message : `the browser says: ${error.message || error}`;
      self.postMessage({ error: reason });
    }
  };
}

/** Return a picture file of what the network sees. */
async function shown(pixels) {
  const { height, width, data } = withChannels(pixels, 3), canvas = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  for (let at = 0, from = 0; at < image.data.length; at += 4, from += 3) {
    image.data.set([data[from], data[from + 1], data[from + 2], 255], at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob(height * width > 2 ** 13 ? { type: "image/jpeg", quality: 0.85 } : {});
}
