// Batch normalisation. A channel is a row of `count` contiguous values: every position of every image.

#include "common.cuh"
#include "normalization.cuh"
#include "stored.cuh"

// Grid: (channels, parts). Each block writes the mean of its part of a row, and the sum of squared deviations from it.
extern "C" __global__ void moments_of_parts(
    const IMAGE *__restrict__ x, REAL *__restrict__ means, REAL *__restrict__ squares, int count)
{
    const int length = (count + gridDim.y - 1) / gridDim.y, first = blockIdx.y * length, last = min(first + length, count);
    x += (size_t)blockIdx.x * count;
    REAL sum = 0, distances = 0;
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) sum += x[i];
    const REAL mean = block_sum(sum) / max(last - first, 1);
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) distances += (x[i] - mean) * (x[i] - mean);
    distances = block_sum(distances);
    if (threadIdx.x == 0) {
        means[blockIdx.x * gridDim.y + blockIdx.y] = mean;
        squares[blockIdx.x * gridDim.y + blockIdx.y] = distances;
    }
}

// The mean of a channel, and the sum of squared deviations from it, of those of its parts (Chan, Golub and LeVeque, 1979).
__device__ inline void combine(const REAL *means, const REAL *squares, int parts, int count, REAL &mean, REAL &square)
{
    const int length = (count + parts - 1) / parts;
    int counted = 0;
    mean = square = 0;
    for (int part = 0; part < parts; part++) {
        const int more = min(length, count - part * length);
        if (more <= 0) break;
        const REAL distance = means[part] - mean, share = REAL(more) / (counted + more);
        mean += distance * share;
        square += squares[part] + distance * distance * counted * share;
        counted += more;
    }
}

// One thread per channel. results: its mean and its sum of squares.
extern "C" __global__ void combine_moments(
    const REAL *__restrict__ means, const REAL *__restrict__ squares, REAL *__restrict__ results, int channels, int parts,
    int count)
{
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    REAL mean, square;
    combine(means + channel * parts, squares + channel * parts, parts, count, mean, square);
    results[channel] = mean;
    results[channels + channel] = square;
}

// One thread per channel. results: its mean and std, and its running mean and variance moved towards these moments
// unless they are of a single value.
extern "C" __global__ void statistics(
    const REAL *__restrict__ means, const REAL *__restrict__ squares, const REAL *__restrict__ running_mean,
    const REAL *__restrict__ running_var, REAL *__restrict__ results, REAL momentum, REAL epsilon, int channels, int parts,
    int count)
{
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    REAL mean, square;
    combine(means + channel * parts, squares + channel * parts, parts, count, mean, square);
    results[channel] = mean;
    results[channels + channel] = sqrt(square / count + epsilon);
    const REAL before = running_mean[channel], variance = running_var[channel];
    results[2 * channels + channel] = count > 1 ? before * (1 - momentum) + mean * momentum : before;
    results[3 * channels + channel] = count > 1 ? variance * (1 - momentum) + square / (count - 1) * momentum : variance;
}

// Grid: (channels, blocks of a row).
extern "C" __global__ void normalize(
    const IMAGE *__restrict__ x, const REAL *__restrict__ mean, const REAL *__restrict__ std,
    const REAL *__restrict__ weight, const REAL *__restrict__ bias, IMAGE *__restrict__ y, int count, int relu)
{
    const size_t row = (size_t)blockIdx.x * count;
    const Line line(blockIdx.x, mean, std, weight, bias);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < count; i += gridDim.y * blockDim.x)
        y[row + i] = line.at(x[row + i], relu);
}

// The gradients of weight and bias.
__device__ inline void write_gradients(
    int channel, REAL sum, REAL products, const REAL *std, REAL *dweight, REAL *dbias)
{
    dweight[channel] = products / std[channel];
    dbias[channel] = sum;
}

// Grid: (channels, parts). Each block writes the sums of dy and of dy (x - mean) over its part of a row; the only one, the
// gradients too. y: where it is not above 0, dy counts as 0; null without ReLU.
extern "C" __global__ void __launch_bounds__(1024) gradient_sums_of_parts(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ y, const IMAGE *__restrict__ x, const REAL *__restrict__ mean,
    const REAL *__restrict__ std, REAL *__restrict__ parts, REAL *__restrict__ dweight, REAL *__restrict__ dbias, int count)
{
    const int length = (count + gridDim.y - 1) / gridDim.y, first = blockIdx.y * length, last = min(first + length, count);
    const size_t row = (size_t)blockIdx.x * count;
    const REAL middle = mean[blockIdx.x];
    REAL sum = 0, products = 0;
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) {
        const REAL gradient = !y || y[row + i] > 0 ? dy[row + i] : REAL(0);
        sum += gradient;
        products += gradient * (x[row + i] - middle);
    }
    sum = block_sum(sum);
    products = block_sum(products);
    if (threadIdx.x > 0) return;
    parts[blockIdx.y * 2 * gridDim.x + blockIdx.x] = sum;
    parts[blockIdx.y * 2 * gridDim.x + gridDim.x + blockIdx.x] = products;
    if (gridDim.y == 1) write_gradients(blockIdx.x, sum, products, std, dweight, dbias);
}

// One thread per channel adds up the sums of its parts, in order.
extern "C" __global__ void add_gradient_sums(
    const REAL *__restrict__ parts, const REAL *__restrict__ std, REAL *__restrict__ sums, REAL *__restrict__ dweight,
    REAL *__restrict__ dbias, int channels, int count)
{
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    REAL sum = 0, products = 0;
    for (int part = 0; part < count; part++) {
        sum += parts[part * 2 * channels + channel];
        products += parts[part * 2 * channels + channels + channel];
    }
    sums[channel] = sum;
    sums[channels + channel] = products;
    write_gradients(channel, sum, products, std, dweight, dbias);
}

// Grid: (channels, blocks of a row). y: as above.
extern "C" __global__ void normalize_backward(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ y, const IMAGE *__restrict__ x, const REAL *__restrict__ mean,
    const REAL *__restrict__ sums, const REAL *__restrict__ std, const REAL *__restrict__ weight, IMAGE *__restrict__ dx,
    int count, REAL samples)
{
    const size_t row = (size_t)blockIdx.x * count;
    const GradientLine line(blockIdx.x, gridDim.x, mean, sums, std, weight, samples);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < count; i += gridDim.y * blockDim.x)
        dx[row + i] = line.at(!y || y[row + i] > 0 ? dy[row + i] : REAL(0), x[row + i]);
}
