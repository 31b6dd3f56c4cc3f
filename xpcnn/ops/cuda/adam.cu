// Adam over a slice of the flat parameters. scalars: the rate, epsilon and the factor that decays weights first.
extern "C" __global__ void adam(
    REAL *__restrict__ parameters, const REAL *__restrict__ gradient, REAL *__restrict__ mean, REAL *__restrict__ square,
    const REAL *__restrict__ scalars, REAL beta1, REAL beta2, int decays, int size)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const REAL g = gradient[i], m = mean[i] * beta1 + g, v = square[i] * beta2 + g * g;
    mean[i] = m;
    square[i] = v;
    const REAL p = decays ? parameters[i] * scalars[2] : parameters[i];
    parameters[i] = p - scalars[0] * (m / (sqrt(v) + scalars[1]));
}
