// What the kernels share. REAL, the type of the values, and all constants are defined before the source.

// Four adjacent values, read or written at once.
template <class T> struct alignas(4 * sizeof(T)) FourOf { T of[4]; };
typedef FourOf<REAL> Four;

// The sum over the threads of a block, always in the same order; every thread gets it.
__device__ inline REAL block_sum(REAL value) {
    __shared__ REAL warps[32];
    int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_down_sync(0xffffffffu, value, distance);
    __syncthreads();
    if (thread % 32 == 0) warps[thread / 32] = value;
    __syncthreads();
    REAL sum = 0;
    for (int warp = 0; warp < threads / 32; warp++) sum += warps[warp];
    return sum;
}
