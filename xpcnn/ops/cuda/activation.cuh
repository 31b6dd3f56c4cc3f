// The activation of what a kernel writes, as activations.py numbers it. NaN stays NaN.
enum { LINEAR, RELU, RELU6 };

__device__ inline REAL activated(REAL value, int activation) {
    if (activation != LINEAR && value < 0) return 0;
    return activation == RELU6 && value > 6 ? REAL(6) : value;
}

// Whether the activation hands the gradient of its output y on to its input.
__device__ inline bool hands_on(REAL y, int activation) {
    return activation == LINEAR || (y > 0 && (activation != RELU6 || y < 6));
}
