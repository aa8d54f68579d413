// The K formats by AMX. A code times its scale has too many bits for a byte; times a digit of its scale it has not. So the
// products of each digit are summed up apart over a span, and put together: the same integers as those of x86_k.h.
#pragma once

enum { MOST_DIGITS = 3, TILES_AT_ONCE_K = 8 };  // so many tiles of tokens share each unpacking of a span

// Two octal ones, or for scales with a sign three from -3 to 4.
INLINE int digits_in(const int FORMAT) { return FORMAT == LQ_K6 ? 3 : 2; }

// Of a group: the digits of each row's scale, in both halves of its 32 bits.
INLINE void read_digits(const int FORMAT, __m512i scales, int group, __m512i *digits) {
    const char a = (char)(group * 4), b = (char)(a + 1), c = (char)(a + 2), d = (char)(a + 3), z = (char)-128;
    const __m128i plain = _mm_setr_epi8(a, z, a, z, b, z, b, z, c, z, c, z, d, z, d, z);
    const __m128i high = _mm_setr_epi8(z, a, z, a, z, b, z, b, z, c, z, c, z, d, z, d);
    const __m512i three = _mm512_set1_epi16(3), seven = _mm512_set1_epi16(7);
    __m512i rest = _mm512_shuffle_epi8(scales, _mm512_broadcast_i32x4(FORMAT == LQ_K6 ? high : plain));
    if (FORMAT != LQ_K6) {
        digits[0] = _mm512_and_si512(rest, seven), digits[1] = _mm512_srli_epi16(rest, 3);
        return;
    }
    rest = _mm512_srai_epi16(rest, 8);
    for (int i = 0; i < 2; i++) {
        digits[i] = _mm512_sub_epi16(_mm512_and_si512(_mm512_add_epi16(rest, three), seven), three);
        rest = _mm512_srai_epi16(_mm512_sub_epi16(rest, digits[i]), 3);
    }
    digits[2] = rest;
}

// Bytes times digits; each product is a byte too.
INLINE __m512i times_digit(const int FORMAT, __m512i codes, __m512i digits) {
    const __m512i products = _mm512_mullo_epi16(codes, digits);
    if (FORMAT != LQ_K6) return products;
    // With signs, what is above the lower product must not get into the upper one.
    const __m512i upper = _mm512_mullo_epi16(_mm512_andnot_si512(_mm512_set1_epi16(255), codes), digits);
    return _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaa, products, upper);
}

// The codes of a span times each digit of their scales, as tiles of 64 columns: [half of the span][digit][1024].
INLINE void unpack_span(const int FORMAT, const uint8_t *start, const uint8_t *a, const uint8_t *b, const __m512i *scales,
                        uint8_t *tiles) {
    __m512i more = _mm512_setzero_si512(), digits[MOST_DIGITS], u, v;
    const int count = digits_in(FORMAT), vectors = FORMAT == LQ_K6 ? 2 : 4;  // of a group
#pragma GCC unroll 16
    for (int vector = 0; vector < 16; vector++) {
        const int group = vector / vectors;
        if (vector % vectors == 0) read_digits(FORMAT, scales[group / 4], group % 4, digits);
        read_codes(FORMAT, a, b, vector, &more, &u, &v);
        if (vector % 2 == 0) prefetch_pair(start, a + vector * 32, b + vector * 32);
        if (FORMAT == LQ_K6) u = _mm512_sub_epi8(u, _mm512_set1_epi8(32)), v = _mm512_sub_epi8(v, _mm512_set1_epi8(32));
        uint8_t *to = tiles + vector / 8 * count * 1024 + vector % 8 * 128;
#pragma GCC unroll 3
        for (int i = 0; i < count; i++, to += 1024) {
            _mm512_store_si512(to, times_digit(FORMAT, u, digits[i]));
            _mm512_store_si512(to + 64, times_digit(FORMAT, v, digits[i]));
        }
    }
}

// The sums of a span's digits for one tile of tokens, and for K4 and K5 two: [tile][digit][token][row].
INLINE void multiply_digits(const int FORMAT, const uint8_t *weights, const int8_t *x, size_t stride, int two_tiles,
                            int32_t *sums) {
    const int8_t *second = x + ROWS_OF_TILE * stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int half = 0; half < 2; half++, x += 64, second += 64) {
        _tile_loadd(5, x, stride);
        if (two_tiles) _tile_loadd(6, second, stride);
        if (FORMAT == LQ_K6) {
            _tile_loadd(4, weights, 64);
            _tile_dpbssd(0, 5, 4);
            _tile_loadd(4, weights + 1024, 64);
            _tile_dpbssd(1, 5, 4);
            _tile_loadd(4, weights + 2048, 64);
            _tile_dpbssd(2, 5, 4);
        } else {
            _tile_loadd(4, weights, 64);
            _tile_dpbsud(0, 5, 4);
            if (two_tiles) _tile_dpbsud(2, 6, 4);
            _tile_loadd(4, weights + 1024, 64);
            _tile_dpbsud(1, 5, 4);
            if (two_tiles) _tile_dpbsud(3, 6, 4);
        }
        weights += digits_in(FORMAT) * 1024;
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + 256, 64);
    if (FORMAT == LQ_K6 || two_tiles) _tile_stored(2, sums + 512, 64);
    if (two_tiles) _tile_stored(3, sums + 768, 64);
}

typedef struct {
    __m512 d, dmin;
    __m512i minima[2];
} span_scales;

// Adds a span's sums to those of the tokens of a tile, whose scales and sums of codes lie so far apart.
INLINE void add_digits(const int FORMAT, const int32_t *sums, int rows, const span_scales *of, const float *xs, int scale_stride,
                       const int32_t *x_sums, int sum_stride, float *acc) {
    for (int m = 0; m < rows; m++, sums += 16, acc += 16, xs += scale_stride, x_sums += sum_stride) {
        __m512i dot = _mm512_add_epi32(_mm512_load_si512(sums), _mm512_slli_epi32(_mm512_load_si512(sums + 256), 3));
        if (FORMAT == LQ_K6) dot = _mm512_add_epi32(dot, _mm512_slli_epi32(_mm512_load_si512(sums + 512), 6));
        __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), of->d);
        if (FORMAT != LQ_K6) {
            __m512i least = _mm512_dpwssd_epi32(_mm512_setzero_si512(), of->minima[0], _mm512_set1_epi32(x_sums[0]));
            least = _mm512_dpwssd_epi32(least, of->minima[1], _mm512_set1_epi32(x_sums[1]));
            sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(least), of->dmin, sum);
        }
        _mm512_store_ps(acc, _mm512_fmadd_ps(sum, _mm512_set1_ps(*xs), _mm512_load_ps(acc)));
    }
}

// The panels at `a` and `b` times `tiles` tiles of tokens, `rows` in each.
INLINE void multiply_tiles_k(const int FORMAT, const lq_matrix *w, const lq_acts *acts, const uint8_t *a, const uint8_t *b,
                             int first, int tiles, int rows, float *acc) {
    const int spans = w->group / LQ_SPAN, all_spans = w->cols / LQ_SPAN, at_once = FORMAT == LQ_K6 ? 1 : 2;
    const int sum_stride = w->cols / lq_sum_columns(FORMAT) / 2, sums_of_span = LQ_SPAN / lq_sum_columns(FORMAT) / 2;
    const int span_bytes = lq_span_bytes(FORMAT), scales_at = LQ_SPAN_CODES + lq_span_above(FORMAT);
    const int8_t *x = acts->codes + (size_t)first * w->cols;
    const float *xs = acts->scale + (size_t)first * all_spans;
    const int32_t *x_sums = (const int32_t *)acts->sums16 + (size_t)first * sum_stride;
    const size_t stride = (size_t)w->cols, next_tile = ROWS_OF_TILE * stride;
    const uint8_t *start = a;
    _Alignas(64) uint8_t weights[2 * MOST_DIGITS * 1024];
    _Alignas(64) int32_t sums[2][1024];
    memset(acc, 0, sizeof(float) * 256 * (size_t)tiles);
    for (int span = 0; span < all_spans; span++, a += span_bytes, b += span_bytes, x += LQ_SPAN, xs++, x_sums += sums_of_span) {
        const size_t super = (size_t)((spans - span % spans) * span_bytes);
        __m512i scales[2], minima;
        span_scales of = {.d = half16(a + super, b + super)};
        read_scales(FORMAT, a + scales_at, b + scales_at, scales, &minima);
        if (FORMAT != LQ_K6) {
            of.dmin = half16(a + super + 16, b + super + 16);
            for (int n = 0; n < 2; n++) of.minima[n] = read_minima(FORMAT, scales, minima, n);
        }
        unpack_span(FORMAT, start, a, b, scales, weights);
        written(weights);
        // The tiles compute the next sums while vectors add these.
        for (int t = 0; t < tiles + at_once; t += at_once) {
            if (t < tiles)
                multiply_digits(FORMAT, weights, x + (size_t)t * next_tile, stride, at_once == 2 && t + 1 < tiles, sums[t / at_once % 2]);
            const int before = t - at_once;
            for (int i = 0; before >= 0 && i < at_once && before + i < tiles; i++) {
                const int token = (before + i) * ROWS_OF_TILE;
                add_digits(FORMAT, sums[before / at_once % 2] + i * 512, rows, &of, xs + (size_t)token * all_spans, all_spans,
                           x_sums + (size_t)token * sum_stride, sum_stride, acc + (before + i) * 256);
            }
        }
        if (span % spans == spans - 1) a += FORMAT == LQ_K6 ? 16 : 32, b += FORMAT == LQ_K6 ? 16 : 32;
    }
}
