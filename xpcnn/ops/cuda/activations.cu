// max(x, 0), which may overwrite x; NaN stays NaN.
extern "C" __global__ void relu(const REAL *x, REAL *y, size_t size)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = x[i] < 0 ? REAL(0) : x[i];
}

// The gradient of ReLU's input: dy where y is above 0, else 0.
extern "C" __global__ void relu_gradient(
    const REAL *__restrict__ dy, const REAL *__restrict__ y, REAL *__restrict__ dx, size_t size)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = y[i] > 0 ? dy[i] : REAL(0);
}
