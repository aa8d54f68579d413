// libFuzzer: any shape and any bits as weights. The packers refuse, or write within what the form takes and leave no
// scale that is not finite.
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static void check_scales(int format, int group, const uint8_t *packed, uint64_t bytes) {
    const uint64_t codes = (uint64_t)group * (format == LQ_INT4 ? 4 : 8), block = format == LQ_BF16 ? 2 : codes + 32;
    const uint16_t infinite = format == LQ_BF16 ? 0x7f80 : 0x7c00;
    for (uint64_t start = 0; start < bytes; start += block)
        for (uint64_t i = format == LQ_BF16 ? 0 : codes; i < block; i += 2) {
            uint16_t half;
            memcpy(&half, packed + start + i, 2);
            if ((half & infinite) == infinite) abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 9) return 0;
    int32_t rows = 8 * (1 + data[0] % 2), group = 32 * (1 + data[1] % 3), cols = group * (1 + data[2] % 2);
    if (data[3] > 240) memcpy(data[3] % 3 == 0 ? &rows : data[3] % 3 == 1 ? &cols : &group, data + 4, 4);
    const int fits = rows > 0 && rows <= 16 && rows % 8 == 0 && group >= 32 && group <= LQ_MAX_GROUP && group % 32 == 0 &&
                     cols > 0 && cols <= 4096 && cols % group == 0;
    if (!fits && rows > 0 && rows % 8 == 0 && group >= 32 && group <= LQ_MAX_GROUP && group % 32 == 0 && cols > 0 &&
        cols % group == 0)
        return 0;  // right, but larger than is worth allocating
    const size_t count = fits ? (size_t)rows * (size_t)cols : 1;
    float *weights = malloc(count * sizeof *weights);
    const size_t from = data[3] & 1 ? 8 : 0;
    for (size_t i = 0; i < count * sizeof *weights; i++) ((uint8_t *)weights)[i] = data[from + i % (size - from)];
    for (int format = LQ_BF16; format <= LQ_INT8; format++) {
        const uint64_t bytes = fits ? lq_packed_bytes(format, group, rows, cols) : 1;
        uint8_t *packed = malloc(bytes);
        const int result = (format == LQ_INT4   ? lq_pack_int4
                            : format == LQ_INT8 ? lq_pack_int8
                                                : lq_pack_bf16)(weights, rows, cols, group, packed);
        if (fits == (result == 2)) abort();
        if (!result) check_scales(format, group, packed, bytes);
        free(packed);
    }
    free(weights);
    return 0;
}
