// Built for x86_64 with -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512vnni
// Intel servers since 2019, AMD since Zen 4.
#include "avx512.h"

LQ_TABLE(lq_kernels_avx512, "avx512", store_acts, multiply)
