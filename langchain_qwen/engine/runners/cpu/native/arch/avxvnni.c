// Built for x86_64 with -mavx2 -mfma -mf16c -mavxvnni
// The same without AVX-512: Intel desktops and laptops since 2021, AMD since Zen 5.
#define TILE 4  // tokens that share each unpacking of a panel
#include "simd_avx2.h"

#include "x86_sums.h"

#define DOT8 _mm256_dpbusd_avx_epi32
#define DOT16 _mm256_dpwssd_avx_epi32
#include "vnni_sums.h"

#include "attention.h"
#include "x86_products.h"

LQ_TABLE(lq_kernels_avxvnni, "vnni", store_acts, multiply)
