// The average of each channel of each image, and its gradient. x: (channels, cells, n), y: (channels, n).

#include "stored.cuh"

#define IMAGES 32
#define LANES 8

// Grid: (channels, blocks of images). The threads of a block are images x parts of the cells.
extern "C" __global__ void global_average(const IMAGE *__restrict__ x, IMAGE *__restrict__ y, int cells, int n)
{
    __shared__ REAL parts[LANES][IMAGES];
    const int image = blockIdx.y * IMAGES + threadIdx.x;
    REAL sum = 0;
    for (int cell = threadIdx.y; image < n && cell < cells; cell += LANES)
        sum += x[((size_t)blockIdx.x * cells + cell) * n + image];
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || image >= n) return;
    for (int lane = 1; lane < LANES; lane++) sum += parts[lane][threadIdx.x];
    y[(size_t)blockIdx.x * n + image] = sum / cells;
}

// One thread per cell of dx.
extern "C" __global__ void global_average_gradient(const IMAGE *__restrict__ dy, IMAGE *__restrict__ dx, int cells, int n, int size)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell < size) dx[cell] = dy[(size_t)(cell / n / cells) * n + cell % n] / cells;
}
