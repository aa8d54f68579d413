// The data that Python hands over: weights, KV memory and one step. Python mirrors these structs with ctypes; layout.c
// describes them, so that it can compare.
#pragma once
#include <stddef.h>
#include <stdint.h>

// What Python calls; nothing else can be seen from outside of the library.
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

// How a matrix is held. All formats keep 8 rows ("a panel") interleaved, so that one load serves 8 rows and one
// broadcast activation feeds them all; rows is a multiple of 8 and cols a multiple of group.
//   INT4: per panel and group: group*4 bytes of codes, 8 fp16 scales, 8 fp16 scale*zero.
//         Byte r*4+i of the j-th 32 bytes holds the codes of row r at k = 8j+i (low nibble) and 8j+4+i (high).
//   INT8: per panel and group: group*8 bytes of signed codes, 8 fp16 scales, 8 fp16 scale*zero.
//         Byte r*4+i of the j-th 32 bytes holds row r at k = 4j+i.
//   BF16: per panel: for each k the 8 rows' bf16 values.
//   K4, K5, K6: llama.cpp's Q4_K, Q5_K and Q6_K, code for code. `group` is a super-block of LQ_SPAN or two of them; per
//         panel and super-block come its spans, 8 fp16 super-scales and, but for K6, 8 fp16 super-minima.
//         A span: 512 bytes of codes as in INT4, the low 4 bits; the bits above them; then integer scales:
//         K4, K5: weight = d * scale * code - dmin * minimum, scale and minimum of 6 bits for each 32 columns.
//         K6:     weight = d * scale * (code - 32), scale of 8 bits with a sign for each 16 columns.
//         Bits above, K5: 128 bytes. Those of the codes in the 32-byte vector v (of 16) are in the vector v/4, of the low
//         nibbles as bit v%4*2 of the byte of the same place, of the high ones as the bit after it.
//         Bits above, K6: 256 bytes, in the vector v/2, from the bit v%2*4 on two of the low nibble and two of the high one.
//         Scales, K4, K5: 48 bytes. Row r and group g have the place p = r/4*16 + g*4 + r%4. The byte p holds the low 4
//         bits of the scale and of the minimum; of the byte 32 + p%16 the bits 0 and 1 hold the scale's upper two for
//         p < 16, 2 and 3 for the others; 4 and 5, 6 and 7 likewise the minimum's.
//         Scales, K6: 64 bytes: groups 0 to 3 at the places p, groups 4 to 7 at 32 + p.
enum lq_format { LQ_BF16 = 0, LQ_INT4 = 1, LQ_INT8 = 2, LQ_K4 = 3, LQ_K5 = 4, LQ_K6 = 5 };
enum { LQ_SPAN = 128 };  // columns of a K format whose activations share a scale

typedef struct {
    int32_t format, group, rows, cols;
    int32_t stride;  // numbers from one token's results to the next one's: rows of all parts of what is run as one
    uint64_t bytes;  // of `data`
    const uint8_t *data;
    const float *bias;     // [rows], or NULL
    const int32_t *order;  // [cols] which input each column takes; NULL for the order that they come in
} lq_matrix;

// Matrices whose rows follow one another but are held in different ways are several parts; those behind the last have no
// rows.
enum { LQ_QKV_PARTS = 3, LQ_GATE_UP_PARTS = 2 };

typedef struct {
    lq_matrix qkv[LQ_QKV_PARTS], out, gate_up[LQ_GATE_UP_PARTS], down;  // gate_up: all gate rows, then all up rows
    const float *attention_norm, *ffn_norm;
} lq_layer;

typedef struct {
    int32_t num_layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    float norm_eps;
    const lq_layer *layers;
    const float *final_norm;
    lq_matrix head;
} lq_model;

// KV memory, fp16. A block holds 16 tokens of one layer:
//   keys   [block][kv_head][head_dim][16]  transposed, so that a vector holds one component of many tokens
//   values [block][kv_head][16][head_dim]
enum { LQ_BLOCK = 16 };

typedef struct {
    int32_t num_blocks;
    uint64_t bytes;           // of each of the two
    uint16_t *keys, *values;  // layer after layer
} lq_kv;

// One step over new tokens of any number of requests, packed in one row.
typedef struct {
    int32_t tokens;
    const int32_t *position;      // [tokens] place in its request
    const int32_t *table;         // [tokens] where the request's block numbers begin in `blocks`
    const int32_t *blocks;        // block numbers of all requests
    const float *cosine, *sine;   // [tokens][head_dim/2] rotary angles
    float *hidden;                // [tokens][hidden] in: embeddings; overwritten
    int32_t wanted;
    const int32_t *wanted_token;  // [wanted] which tokens' logits are asked for, ascending
    float *logits;                // [wanted][vocab]
    int32_t num_panels;
    const int32_t *panels;        // [num_panels] the only panels of the head to multiply; NULL for all
    float *inputs;                // out: the inputs of all matrices in the order of their use, those of a layer each
                                  // [tokens][cols], the head's [wanted][hidden]; NULL where nobody wants to see them
} lq_step;

// What a model may measure. Within these limits no number of a step overflows an int.
enum {
    LQ_MAX_LAYERS = 1024,
    LQ_MAX_HIDDEN = 1 << 16,
    LQ_MAX_HEADS = 1024,
    LQ_MAX_HEAD_DIM = 1024,
    LQ_MAX_ATTENDED = 1 << 17,  // heads * head_dim
    LQ_MAX_FFN = 1 << 19,
    LQ_MAX_VOCAB = 1 << 21,
    LQ_MAX_GROUP = 1024,  // a group of 1,024 products still fits int32
    LQ_MAX_BLOCKS = 1 << 28,
    LQ_MAX_LENGTH = 1 << 24,
    LQ_MAX_STEP = 1 << 12,
    LQ_MAX_THREADS = 1024,
};

// What is wrong with a model, its KV memory or the settings of a runner; NULL when all is as the kernels need it.
const char *lq_check(const lq_model *model, const lq_kv *kv, int num_threads, int max_tokens, int max_length);
