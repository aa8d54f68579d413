#include "kernels.h"

const lq_kernels *lq_kernels_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        return &lq_kernels_avx2;
#endif
    return &lq_kernels_portable;
}
