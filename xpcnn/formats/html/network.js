// The network: a list of nodes that read and write numbered slots, as xpcnn/program has it. Arrays are Float32Array in
// (channel, row, column) order; slot 0 holds the image.

class Network {
  /** spec: what program.py describes; weights: Int16Array, one scale a filter; numbers: Float32Array. */
  constructor(spec, weights, numbers) {
    this.spec = spec;
    this.last = spec.last;
    const take = ([start, length]) => numbers.subarray(start, start + length);
    this.nodes = spec.nodes.map((node) => {
      const own = { ...node };
      if (node.weight) own.weight = unpacked(weights, node.weight, take(node.scales));
      for (const name of ["bias", "scale", "shift"]) if (node[name]) own[name] = take(node[name]);
      return own;
    });
  }

  /** Return what every slot holds for an image. */
  run(x) {
    const slots = [x];
    for (const node of this.nodes) {
      slots[node.output] = KINDS[node.op].forward(node, node.inputs.map((slot) => slots[slot]));
    }
    return slots;
  }

  /** Return the probability of every class, in double precision. */
  probabilities(x) {
    const { activation, temperature } = this.spec.answer;
    const z = Array.from(this.run(x)[this.last]);
    let p = z;
    if (activation === "softmax") p = softmax(z.map((value) => value / temperature));
    if (activation === "sigmoid") p = z.map((value) => sigmoid(value / (z.length === 1 ? temperature : 1)));
    const both = p.length === 1 ? [1 - p[0], p[0]] : p;
    const softened = temperature === 1 || activation === "softmax" || (activation === "sigmoid" && p.length === 1);
    return softened ? both : softmax(both.map((value) => Math.log(Math.max(value, 1e-45)) / temperature));
  }

  /** Grad-CAM (Selvaraju et al., 2017), as in xpcnn/report/explanation.py: rows, columns and values from 0 to 1. */
  explain(x, label) {
    const { slot, shape } = this.spec.explained;
    const slots = this.run(x);
    const gradients = [];
    const score = new Float32Array(slots[this.last].length);
    score[Math.min(label, score.length - 1)] = score.length === 1 && label === 0 ? -1 : 1;
    gradients[this.last] = score;
    for (const node of [...this.nodes].reverse()) {
      if (node.output <= slot || !gradients[node.output]) continue;
      const inputs = node.inputs.map((input) => slots[input]);
      KINDS[node.op].backward(node, gradients[node.output], inputs, slots[node.output]).forEach((dx, i) => {
        const input = node.inputs[i];
        gradients[input] = gradients[input] ? gradients[input].map((value, at) => value + dx[at]) : dx;
      });
    }
    const [channels, rows, columns] = shape;
    const size = rows * columns;
    const dy = gradients[slot] ?? new Float32Array(channels * size);
    const values = new Float32Array(size);
    for (let c = 0; c < channels; c++) {
      const here = dy.subarray(c * size, (c + 1) * size);
      const weight = here.reduce((sum, value) => sum + value, 0) / size;
      for (let p = 0; p < size; p++) {
        if (slot === 0) values[p] = Math.max(values[p], Math.abs(here[p]));
        else values[p] += weight * slots[slot][c * size + p];
      }
    }
    const most = values.reduce((largest, value) => Math.max(largest, value), 0);
    return { rows, columns, values: values.map((value) => (most > 0 ? Math.max(value, 0) / most : 0)) };
  }
}

/** Return 16-bit weights times the scale of their filter. */
function unpacked(weights, [start, length], scales) {
  const each = length / scales.length;
  const values = new Float32Array(length);
  for (let at = 0; at < length; at++) values[at] = weights[start + at] * scales[Math.floor(at / each)];
  return values;
}

function softmax(z) {
  const most = Math.max(...z);
  const powers = z.map((value) => Math.exp(value - most));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}

const sigmoid = (x) => Math.exp(Math.min(x, 0)) / (1 + Math.exp(-Math.abs(x)));
const hardSigmoid = (x) => Math.min(Math.max(x + 3, 0), 6) / 6;
const hardSlope = (x) => (x > -3 && x < 3 ? 1 / 6 : 0);

/** Φ of the normal distribution, by Abramowitz and Stegun's 7.1.26 for erf, within 1.5e-7. */
function below(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x) * Math.SQRT1_2);
  const polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const half = 0.5 * polynomial * Math.exp((-x * x) / 2);
  return x < 0 ? half : 1 - half;
}

/** Each activation, and its slope given x and y. */
const ACTIVATIONS = {
  relu: [(x) => Math.max(x, 0), (x) => (x > 0 ? 1 : 0)],
  relu6: [(x) => Math.min(Math.max(x, 0), 6), (x) => (x > 0 && x < 6 ? 1 : 0)],
  elu: [(x) => (x > 0 ? x : Math.expm1(x)), (x) => (x > 0 ? 1 : Math.exp(x))],
  gelu: [(x) => x * below(x), (x) => below(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI)],
  silu: [(x) => x * sigmoid(x), (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x)))],
  hard_swish: [(x) => x * hardSigmoid(x), (x) => hardSigmoid(x) + x * hardSlope(x)],
  sigmoid: [sigmoid, (x, y) => y * (1 - y)],
  hard_sigmoid: [hardSigmoid, hardSlope],
  tanh: [Math.tanh, (x, y) => 1 - y * y],
};
