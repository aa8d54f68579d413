// Built for aarch64 with -march=armv8.2-a+dotprod
// NEON with the dot product: ARM servers since 2019, Apple since 2019, phones and single-board computers since about then.
#define TILE 4  // tokens that share each unpacking of a panel
#include "simd_neon.h"

#include "acts.h"
#include "attention.h"
#include "neon_products.h"

const lq_kernels lq_kernels_neon = {
    .name = "neon",
    .store_acts = store_acts,
    .multiply = multiply,
    .rms_norm = rms_norm,
    .add = add,
    .silu_multiply = silu_multiply,
    .attend = attend,
    .to_half = to_half,
};
