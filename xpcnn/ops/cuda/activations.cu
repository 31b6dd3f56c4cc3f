// The gradient before ReLU: dy where y is above 0, else 0.
extern "C" __global__ void relu_gradient(
    const REAL *__restrict__ dy, const REAL *__restrict__ y, REAL *__restrict__ dx, size_t size)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = y[i] > 0 ? dy[i] : REAL(0);
}
