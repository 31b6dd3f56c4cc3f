// Softmax and cross-entropy fused: probabilities, the gradient of the logits and the loss of a whole batch.

#include "common.cuh"

__device__ inline REAL largest(REAL a, REAL b) { return a > b || a != a ? a : b; }

// One block; its threads are images x parts of the classes. logits, gradient, probabilities: (classes, n), targets (n, classes).
extern "C" __global__ void softmax_cross_entropy(
    const REAL *__restrict__ logits, const REAL *__restrict__ targets, const REAL *__restrict__ normalizer,
    REAL *__restrict__ value, REAL *__restrict__ gradient, REAL *__restrict__ probabilities, int n, int classes)
{
    __shared__ REAL columns[1024];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    const REAL divisor = *normalizer;
    REAL loss = 0;
    for (int first = 0; first < n; first += blockDim.x) {
        const int image = first + threadIdx.x;
        const bool inside = image < n;
        REAL top = inside ? logits[image] : REAL(0), sum = 0, weight = 0, product = 0;
        for (int k = threadIdx.y; inside && k < classes; k += blockDim.y) top = largest(logits[(size_t)k * n + image], top);
        __syncthreads();
        columns[thread] = top;
        __syncthreads();
        for (int part = 0; part < blockDim.y; part++) top = largest(columns[part * blockDim.x + threadIdx.x], top);
        for (int k = threadIdx.y; inside && k < classes; k += blockDim.y) {
            const REAL target = targets[(size_t)image * classes + k];
            sum += exp(logits[(size_t)k * n + image] - top);
            weight += target;
        }
        __syncthreads();
        columns[thread] = sum;
        __syncthreads();
        sum = 0;
        for (int part = 0; part < blockDim.y; part++) sum += columns[part * blockDim.x + threadIdx.x];
        __syncthreads();
        columns[thread] = weight;
        __syncthreads();
        weight = 0;
        for (int part = 0; part < blockDim.y; part++) weight += columns[part * blockDim.x + threadIdx.x];
        const REAL logarithm = log(sum);
        for (int k = threadIdx.y; inside && k < classes; k += blockDim.y) {
            const REAL target = targets[(size_t)image * classes + k], shifted = logits[(size_t)k * n + image] - top;
            const REAL probability = exp(shifted) / sum;
            probabilities[(size_t)k * n + image] = probability;
            gradient[(size_t)k * n + image] = (probability * weight - target) / divisor;
            product += target * (shifted - logarithm);
        }
        loss += product;
    }
    loss = block_sum(loss);
    if (thread == 0) *value = loss / -divisor;
}
