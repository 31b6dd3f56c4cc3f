// Batch normalisation with the max pooling and the ReLU that follow it. A channel is multiplied by one number, so that the
// largest cell of a window stays the largest, or becomes the smallest where the number is negative: pooling comes first.

#include "activation.cuh"
#include "stored.cuh"
#include "pooling.cuh"
#include "normalization.cuh"

// One thread per cell of y. z: the winners as they were, winners: which cells of their windows; both null in prediction.
extern "C" __global__ void pool_normalize(
    const IMAGE *__restrict__ x, const REAL *__restrict__ mean, const REAL *__restrict__ std,
    const REAL *__restrict__ weight, const REAL *__restrict__ bias, IMAGE *__restrict__ y, IMAGE *__restrict__ z,
    WINNER *__restrict__ winners, Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.rows * of.columns * of.n) return;
    const Place at(cell, of.n, of.rows, of.columns);
    int winner;
    const REAL best = best_of(x, of, at, weight[at.channel], winner);
    y[cell] = Line(at.channel, mean, std, weight, bias).at(best, of.activation);
    if (!winners) return;
    z[cell] = best;
    winners[cell] = winner;
}

// One thread per cell of dx.
extern "C" __global__ void unpool_normalize_backward(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ y, const WINNER *__restrict__ winners,
    const IMAGE *__restrict__ x, const REAL *__restrict__ mean, const REAL *__restrict__ sums,
    const REAL *__restrict__ std, const REAL *__restrict__ weight, IMAGE *__restrict__ dx, REAL samples, Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.height * of.width * of.n) return;
    const Place at(cell, of.n, of.height, of.width);
    const GradientLine line(at.channel, of.channels, mean, sums, std, weight, samples);
    dx[cell] = line.at(won_by(dy, y, winners, of, at), x[cell]);
}
