// Built for aarch64 with -march=armv8.2-a+dotprod
// NEON with the dot product: ARM servers since 2019, Apple since 2019, phones and single-board computers since about then.
#define TILE 4  // tokens that share each unpacking of a panel
#include "simd_neon.h"

#include "acts.h"
#include "attention.h"
#include "neon_products.h"

LQ_TABLE(lq_kernels_neon, "neon", store_acts, multiply)
