// Pooling by the largest (or smallest) cell of every window, with the bias and the activation that follow it.

#include "activation.cuh"
#include "stored.cuh"
#include "pooling.cuh"

#ifndef X_STORED
#define X_STORED IMAGE
#endif

// One thread per cell of y. X_STORED: how x is stored. winners: which cell of the window it was, or null in prediction.
extern "C" __global__ void pool(
    const X_STORED *__restrict__ x, const REAL *__restrict__ bias, IMAGE *__restrict__ y, WINNER *__restrict__ winners, Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.rows * of.columns * of.n) return;
    const Place at(cell, of.n, of.rows, of.columns);
    int winner;
    REAL best = best_of(x, of, at, of.largest ? REAL(1) : REAL(-1), winner);
    if (bias) best += bias[at.channel];
    y[cell] = activated(best, of.activation);
    if (winners) winners[cell] = winner;
}

// One thread per cell of dx.
extern "C" __global__ void unpool(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ y, const WINNER *__restrict__ winners, IMAGE *__restrict__ dx,
    Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.height * of.width * of.n) return;
    dx[cell] = won_by(dy, y, winners, of, Place(cell, of.n, of.height, of.width));
}
