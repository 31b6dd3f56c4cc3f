#include "activation.cuh"
#include "largest.cuh"
#include "product.cuh"
#include "stored.cuh"

// Adds up the parts of a product, in order. One thread per element.
extern "C" __global__ void finish_product(
    const REAL *__restrict__ sums, const REAL *__restrict__ bias, IMAGE *__restrict__ y, REAL *__restrict__ row_sums,
    Product of, int parts)
{
    const int all_columns = of.columns + (row_sums != nullptr), numbers = of.rows * all_columns;
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= numbers) return;
    REAL total = 0;
    for (int part = 0; part < parts; part++) total += sums[(size_t)part * numbers + number];
    finish(total, number / all_columns, number % all_columns, bias, y, row_sums, of);
}

// The same of a product that is pooled. One thread per window.
extern "C" __global__ void finish_pooled_product(
    const REAL *__restrict__ sums, const REAL *__restrict__ bias, IMAGE *__restrict__ y, unsigned char *__restrict__ winners,
    Product of, int parts)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= of.rows * of.columns) return;
    const int row = number / of.columns, own = number % of.columns, column = own / 8 * 32 + own % 8;
    const int columns = pooled_columns(of);
    auto sum = [&](int cell) {
        REAL total = 0;
        for (int part = 0; part < parts; part++)
            total += sums[((size_t)part * of.rows + row) * columns + column + cell * 8];
        return total;
    };
    finish_pooled(sum, row, column, bias, y, winners, of);
}
