// Built for x86_64 with -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512vnni
// Intel servers since 2019, AMD since Zen 4.
#include "avx512.h"

const lq_kernels lq_kernels_avx512 = {
    .name = "avx512",
    .store_acts = store_acts,
    .multiply = multiply,
    .rms_norm = rms_norm,
    .add = add,
    .silu_multiply = silu_multiply,
    .attend = attend,
    .to_half = to_half,
};
