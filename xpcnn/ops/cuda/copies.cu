// Copies up to eight arrays. Grid: (blocks of the longest, arrays).
extern "C" __global__ void copy_each(
    REAL *y0, const REAL *x0, int size0, REAL *y1, const REAL *x1, int size1, REAL *y2, const REAL *x2, int size2,
    REAL *y3, const REAL *x3, int size3, REAL *y4, const REAL *x4, int size4, REAL *y5, const REAL *x5, int size5,
    REAL *y6, const REAL *x6, int size6, REAL *y7, const REAL *x7, int size7)
{
    REAL *const y[] = {y0, y1, y2, y3, y4, y5, y6, y7};
    const REAL *const x[] = {x0, x1, x2, x3, x4, x5, x6, x7};
    const int sizes[] = {size0, size1, size2, size3, size4, size5, size6, size7}, i = blockIdx.x * blockDim.x + threadIdx.x;
    #pragma unroll
    for (int array = 0; array < 8; array++)  // all indices known to the compiler: the pointers stay in registers
        if (array == blockIdx.y && i < sizes[array]) y[array][i] = x[array][i];
}
