#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdbool.h>

static bool has_f16c(void) {  // not all compilers know it as a feature to ask for by name
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}
#endif

const lq_kernels *lq_kernels_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) return &lq_kernels_avx2;
#endif
    return &lq_kernels_portable;
}
