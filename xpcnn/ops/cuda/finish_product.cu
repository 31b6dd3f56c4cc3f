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
