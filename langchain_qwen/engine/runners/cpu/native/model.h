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
enum lq_format { LQ_BF16 = 0, LQ_INT4 = 1, LQ_INT8 = 2 };

typedef struct {
    int32_t format, group, rows, cols;
    uint64_t bytes;  // of `data`
    const uint8_t *data;
    const float *bias;     // [rows], or NULL
    const int32_t *order;  // [cols] which input each column takes; NULL for the order that they come in
} lq_matrix;

typedef struct {
    lq_matrix qkv, out, gate_up, down;  // gate_up: all gate rows, then all up rows
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
