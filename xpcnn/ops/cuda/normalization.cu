// Batch normalisation. A channel is a row of `count` contiguous values: every position of every image.

#include "common.cuh"

// Grid: (channels, parts). Each block writes the mean of its part of a row, and the sum of squared deviations from it.
extern "C" __global__ void moments_of_parts(
    const REAL *__restrict__ x, REAL *__restrict__ means, REAL *__restrict__ squares, int count)
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

// One thread per channel combines its parts (Chan, Golub and LeVeque, 1979).
extern "C" __global__ void combine_moments(
    const REAL *__restrict__ means, const REAL *__restrict__ squares, REAL *__restrict__ mean, REAL *__restrict__ square,
    int channels, int parts, int count)
{
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    const int length = (count + parts - 1) / parts;
    REAL total_mean = 0, total_squares = 0;
    int counted = 0;
    for (int part = 0; part < parts; part++) {
        const int more = min(length, count - part * length);
        if (more <= 0) break;
        const REAL distance = means[channel * parts + part] - total_mean, share = REAL(more) / (counted + more);
        total_mean += distance * share;
        total_squares += squares[channel * parts + part] + distance * distance * counted * share;
        counted += more;
    }
    mean[channel] = total_mean;
    square[channel] = total_squares;
}

// results: the std of each channel, and its running mean and variance moved towards these moments.
extern "C" __global__ void statistics(
    const REAL *__restrict__ mean, const REAL *__restrict__ squares, const REAL *__restrict__ running_mean,
    const REAL *__restrict__ running_var, REAL *__restrict__ results, REAL momentum, REAL epsilon, int count, int channels)
{
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    const REAL moved = count > 1 ? momentum : REAL(0), unbiased = count > 1 ? squares[channel] / (count - 1) : REAL(0);
    results[channel] = sqrt(squares[channel] / count + epsilon);
    results[channels + channel] = running_mean[channel] * (1 - moved) + mean[channel] * moved;
    results[2 * channels + channel] = running_var[channel] * (1 - moved) + unbiased * moved;
}

// Grid: (channels, blocks of a row).
extern "C" __global__ void normalize(
    const REAL *__restrict__ x, const REAL *__restrict__ mean, const REAL *__restrict__ std,
    const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y, int count)
{
    const int channel = blockIdx.x;
    const REAL scale = weight[channel] / std[channel], middle = mean[channel], shift = bias[channel];
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < count; i += gridDim.y * blockDim.x)
        y[(size_t)channel * count + i] = (x[(size_t)channel * count + i] - middle) * scale + shift;
}

// Grid: (channels, parts). Each block writes the sums of dy and of dy (x - mean) over its part of a row.
extern "C" __global__ void gradient_sums_of_parts(
    const REAL *__restrict__ dy, const REAL *__restrict__ x, const REAL *__restrict__ mean, REAL *__restrict__ parts, int count)
{
    const int length = (count + gridDim.y - 1) / gridDim.y, first = blockIdx.y * length, last = min(first + length, count);
    const size_t row = (size_t)blockIdx.x * count;
    const REAL middle = mean[blockIdx.x];
    REAL sum = 0, products = 0;
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) {
        sum += dy[row + i];
        products += dy[row + i] * (x[row + i] - middle);
    }
    sum = block_sum(sum);
    products = block_sum(products);
    if (threadIdx.x == 0) {
        parts[blockIdx.y * 2 * gridDim.x + blockIdx.x] = sum;
        parts[blockIdx.y * 2 * gridDim.x + gridDim.x + blockIdx.x] = products;
    }
}

// Grid: (channels, blocks of a row). sums: of dy and of dy (x - mean), over the batch of `samples` values per channel.
extern "C" __global__ void normalize_backward(
    const REAL *__restrict__ dy, const REAL *__restrict__ x, const REAL *__restrict__ mean, const REAL *__restrict__ sums,
    const REAL *__restrict__ std, const REAL *__restrict__ weight, REAL *__restrict__ dx, int count, REAL samples)
{
    const int channel = blockIdx.x;
    const REAL wide = std[channel], scale = weight[channel] / wide, middle = mean[channel];
    const REAL shift = sums[channel] / samples, slope = sums[gridDim.x + channel] / (wide * wide) / samples;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < count; i += gridDim.y * blockDim.x) {
        const size_t cell = (size_t)channel * count + i;
        dx[cell] = (dy[cell] - ((x[cell] - middle) * slope + shift)) * scale;
    }
}
