// Changes the scale of a loss in float16 and its counts after a step whose gradient was finite or not, unless the fit has
// failed. One thread. PERIOD: the finite steps after which the scale doubles.
extern "C" __global__ void update_scale(
    REAL *__restrict__ scale, int *__restrict__ finite_steps, int *__restrict__ skipped, const bool *__restrict__ finite,
    const bool *__restrict__ failed, REAL largest)
{
    if (*failed) return;
    const bool doubles = *finite && *finite_steps + 1 == PERIOD;
    if (doubles) *scale = min(*scale * 2, largest);
    else if (!*finite) *scale = max(*scale / 2, REAL(1));
    *finite_steps = *finite && !doubles ? *finite_steps + 1 : 0;
    *skipped += !*finite;
}
