// Correct predictions and the confusion matrix. outputs: (classes, n), the batch last. One block each.

#include "common.cuh"

// The predicted class of an image: its largest output, the first of equal ones; NaN counts as larger than all.
__device__ inline int predicted(const REAL *outputs, int image, int n, int classes) {
    int best = 0;
    for (int k = 1; k < classes; k++) {
        const REAL value = outputs[(size_t)k * n + image], top = outputs[(size_t)best * n + image];
        if (top == top && !(value <= top)) best = k;
    }
    return best;
}

extern "C" __global__ void hits(
    const REAL *__restrict__ outputs, const long long *__restrict__ labels, long long *__restrict__ counts, int n, int classes)
{
    REAL right = 0;
    for (int image = threadIdx.x; image < n; image += blockDim.x)
        right += predicted(outputs, image, n, classes) == labels[image];
    right = block_sum(right);
    if (threadIdx.x == 0) { counts[0] = (long long)right; counts[1] = n; }
}

// counts: (classes, classes), rows true, columns predicted. Integer sums do not depend on the order.
extern "C" __global__ void confusion(
    const REAL *__restrict__ outputs, const long long *__restrict__ labels, unsigned long long *__restrict__ counts,
    int n, int classes)
{
    for (int i = threadIdx.x; i < classes * classes; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    for (int image = threadIdx.x; image < n; image += blockDim.x)
        atomicAdd(&counts[labels[image] * classes + predicted(outputs, image, n, classes)], 1ull);
}
