// How 4-bit codes are found. quantise.c includes this for each instruction set: TARGET makes the compiler use it.

// Scale and offset of weight = scale * code - offset that fit best for given codes (least squares), and the error.
TARGET static float NAME(refit)(const float *w, const float *codes, int n, float *scale, float *offset) {
    lanes c = {0}, cc = {0}, x = {0}, cx = {0}, error = {0}, code, weight;
    for (int i = 0; i < n; i += LANES) {
        memcpy(&code, codes + i, sizeof code);
        memcpy(&weight, w + i, sizeof weight);
        c += code;
        cc += code * code;
        x += weight;
        cx += code * weight;
    }
    const float sc = lanes_sum(&c), scc = lanes_sum(&cc), sx = lanes_sum(&x), scx = lanes_sum(&cx), count = (float)n;
    const float determinant = count * scc - sc * sc;
    if (determinant > 0) {
        *scale = (count * scx - sc * sx) / determinant;
        *offset = (*scale * sc - sx) / count;
    }
    *scale = lq_half_to_float(lq_float_to_half(*scale));
    *offset = lq_half_to_float(lq_float_to_half(*offset));
    for (int i = 0; i < n; i += LANES) {
        memcpy(&code, codes + i, sizeof code);
        memcpy(&weight, w + i, sizeof weight);
        const lanes d = *scale * code - *offset - weight;
        error += d * d;
    }
    return lanes_sum(&error);
}

// To the nearest of 0 to 15, the even one of two.
TARGET static void NAME(round_codes)(const float *w, int n, float inverse, float offset, float *codes) {
    const lanes zero = {0}, most = zero + 15, one_apart = zero + 0x1.8p23f;  // around it floats are 1 apart
    lanes x;
    for (int i = 0; i < n; i += LANES) {
        memcpy(&x, w + i, sizeof x);
        x = (x + offset) * inverse;
        x = (lanes)((lanes_int)x & ~(x < zero));
        const lanes_int above = x > most;
        x = (lanes)(((lanes_int)x & ~above) | ((lanes_int)most & above));
        x = x + one_apart - one_apart;
        memcpy(codes + i, &x, sizeof x);
    }
}

// The 4-bit fit with the smallest squared error among ranges shrunk a little at both ends, each refitted by least
// squares: outliers are cut where the rest gains more. Returns 0 where there is none.
TARGET static int NAME(fit)(const float *w, int n, float *best_codes, float *best_scale, float *best_offset) {
    float low = w[0], high = w[0], codes[LQ_MAX_GROUP];
    int all_finite = 1;
    for (int i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
        all_finite &= is_finite(w[i]);
    }
    if (!all_finite) return 0;
    *best_scale = 0;
    *best_offset = lq_half_to_float(lq_float_to_half(-low));
    memset(best_codes, 0, sizeof(float) * (size_t)n);
    if (!(high > low)) return is_finite(*best_offset);
    float best = INFINITY;
    for (int step = 0; step < 12; step++) {
        const float steps = 14.4f + 0.2f * (float)step;  // 15 steps would span the range exactly
        float scale = (high - low) / steps, offset = scale * (steps - 15) / 2 - low;
        for (int round = 0; round < 2; round++) {
            NAME(round_codes)(w, n, 1 / scale, offset, codes);
            const float error = NAME(refit)(w, codes, n, &scale, &offset);
            if (error < best) {
                best = error;
                *best_scale = scale;
                *best_offset = offset;
                memcpy(best_codes, codes, sizeof(float) * (size_t)n);
            }
            if (!(scale > 0)) break;
        }
    }
    // Where the range is too small for fp16, or for arithmetic, the smallest weight stands for all.
    return is_finite(*best_offset) && (is_finite(best) || high - low < 0x1p-24f);
}
