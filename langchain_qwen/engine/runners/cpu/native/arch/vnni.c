// Built for x86_64 with -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512bw -mavx512vnni
// VNNI in vectors of 256 bits: Intel servers since 2019, AMD since Zen 4.
#define TILE 8  // tokens that share each unpacking of a panel
#include "simd_avx2.h"

#include "x86_sums.h"

#define DOT8 _mm256_dpbusd_epi32
#define DOT16 _mm256_dpwssd_epi32
#include "vnni_sums.h"

#include "attention.h"
#include "x86_products.h"

LQ_TABLE(lq_kernels_vnni, "vnni", store_acts, multiply)
