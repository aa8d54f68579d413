// Built for aarch64 with -march=armv8.2-a+dotprod+i8mm
// The same with matrix products of eight bits: ARM servers since 2021, Apple since the M2.
#define TILE 4  // tokens that share each unpacking of a panel
#define MATRICES
#include "simd_neon.h"

#include "acts.h"
#include "attention.h"
#include "neon_products.h"

LQ_TABLE(lq_kernels_i8mm, "i8mm", store_acts, multiply)
