// Normalisation of a channel as a line, forward and backward, in this order of operations wherever it is computed.

// y = (x - middle) scale + shift
struct Line {
    REAL middle, scale, shift;
    __device__ Line(int channel, const REAL *mean, const REAL *std, const REAL *weight, const REAL *bias)
        : middle(mean[channel]), scale(weight[channel] / std[channel]), shift(bias[channel]) {}
    __device__ REAL at(REAL x, int relu) const {
        const REAL y = (x - middle) * scale + shift;
        return relu && y < 0 ? REAL(0) : y;  // NaN stays NaN
    }
};

// dx = (dy - ((x - middle) slope + start)) scale. sums: of dy and of dy (x - mean), over the batch of `samples` values per
// channel; null where mean and std are not statistics of the batch.
struct GradientLine {
    REAL middle, scale, slope, start;
    __device__ GradientLine(
        int channel, int channels, const REAL *mean, const REAL *sums, const REAL *std, const REAL *weight, REAL samples)
        : middle(mean[channel]), scale(weight[channel] / std[channel]),
          slope(sums ? sums[channels + channel] / (std[channel] * std[channel]) / samples : REAL(0)),
          start(sums ? sums[channel] / samples : REAL(0)) {}
    __device__ REAL at(REAL dy, REAL x) const { return (dy - ((x - middle) * slope + start)) * scale; }
};
