__device__ inline void copy(unsigned array, REAL *y, const REAL *x, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (blockIdx.y == array && i < size) y[i] = x[i];
}

// Copies up to eight arrays. Grid: (blocks of the longest, arrays).
extern "C" __global__ void copy_each(
    REAL *y0, const REAL *x0, int size0, REAL *y1, const REAL *x1, int size1, REAL *y2, const REAL *x2, int size2,
    REAL *y3, const REAL *x3, int size3, REAL *y4, const REAL *x4, int size4, REAL *y5, const REAL *x5, int size5,
    REAL *y6, const REAL *x6, int size6, REAL *y7, const REAL *x7, int size7)
{
    copy(0, y0, x0, size0);
    copy(1, y1, x1, size1);
    copy(2, y2, x2, size2);
    copy(3, y3, x3, size3);
    copy(4, y4, x4, size4);
    copy(5, y5, x5, size5);
    copy(6, y6, x6, size6);
    copy(7, y7, x7, size7);
}
