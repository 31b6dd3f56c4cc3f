#include "stored.cuh"

// Activations of one number each. FUNCTION, defined on the compiler's command line, is one of these.
enum { RELU, RELU6, LEAKY_RELU, ELU, GELU, SILU, HARD_SWISH, SIGMOID, HARD_SIGMOID, TANH };

__device__ inline REAL clipped(REAL x, REAL most) { return x < 0 ? REAL(0) : x > most ? most : x; }  // NaN stays NaN

// 1 / (1 + exp(-x)), by an exponential that cannot overflow.
__device__ inline REAL logistic(REAL x) {
    const REAL tail = exp(x < 0 ? x : -x);
    return (x < 0 ? tail : REAL(1)) / (1 + tail);
}

// The normal distribution's share below x.
__device__ inline REAL normal_below(REAL x) { return REAL(0.5) * (1 + erf(x * REAL(0.70710678118654752440))); }

__device__ inline REAL normal_density(REAL x) {
    x = x < -40 ? REAL(-40) : x > 40 ? REAL(40) : x;  // whose square is a number in single precision
    return exp(REAL(-0.5) * x * x) * REAL(0.39894228040143267794);
}

// y may be x.
extern "C" __global__ void activate(const IMAGE *x, IMAGE *y, REAL slope, size_t size)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const REAL value = x[i];
    switch (FUNCTION) {
        case RELU: y[i] = value < 0 ? REAL(0) : value; break;
        case RELU6: y[i] = clipped(value, 6); break;
        case LEAKY_RELU: y[i] = value > 0 ? value : slope * value; break;
        case ELU: y[i] = value > 0 ? value : expm1(value); break;
        case GELU: y[i] = value * normal_below(value); break;
        case SILU: y[i] = value * logistic(value); break;
        case HARD_SWISH: y[i] = value * (clipped(value + 3, 6) / 6); break;
        case SIGMOID: y[i] = logistic(value); break;
        case HARD_SIGMOID: y[i] = clipped(value + 3, 6) / 6; break;
        case TANH: y[i] = tanh(value); break;
    }
}

// kept: the input for leaky ReLU, GELU, SiLU and hard swish, else the output.
extern "C" __global__ void activate_gradient(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ kept, IMAGE *__restrict__ dx, REAL slope, size_t size)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const REAL value = kept[i], gradient = dy[i];
    switch (FUNCTION) {
        case RELU: dx[i] = value > 0 ? gradient : REAL(0); break;
        case RELU6: dx[i] = value > 0 && value < 6 ? gradient : REAL(0); break;
        case LEAKY_RELU: dx[i] = value > 0 ? gradient : slope * gradient; break;
        case ELU: dx[i] = value > 0 ? gradient : gradient * (1 + value); break;
        case GELU: dx[i] = gradient * (normal_below(value) + value * normal_density(value)); break;
        case SILU: {
            const REAL gate = logistic(value);
            dx[i] = gradient * (gate + value * (gate * (1 - gate)));
            break;
        }
        case HARD_SWISH: {
            const REAL gate = clipped(value + 3, 6) / 6;
            dx[i] = gradient * (gate + (gate > 0 && gate < 1 ? value / 6 : REAL(0)));
            break;
        }
        case SIGMOID: dx[i] = gradient * (value * (1 - value)); break;
        case HARD_SIGMOID: dx[i] = value > 0 && value < 1 ? gradient / 6 : REAL(0); break;
        case TANH: dx[i] = gradient * (1 - value * value); break;
    }
}
