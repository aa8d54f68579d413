// What the native library exports, for the fuzzers.
#pragma once
#include "forms.h"

typedef struct lq_runner lq_runner;
lq_runner *lq_runner_new(const lq_model *, const lq_kv *, int num_threads, int max_tokens, int max_length, const char *kernels,
                         const char **refused);
const char *lq_kernels_list(int index, int *runs, int *proven);
void lq_runner_step(lq_runner *, const lq_step *);
void lq_runner_free(lq_runner *);
int lq_pack_int4(const float *, int rows, int cols, int group, uint8_t *);
int lq_pack_int8(const float *, int rows, int cols, int group, uint8_t *);
int lq_pack_bf16(const float *, int rows, int cols, int group, uint8_t *);
int lq_pack_k4(const float *, int rows, int cols, int group, uint8_t *);
int lq_quantise_gguf(const float *weights, const float *gram, int type, int rows, int cols, uint8_t *blocks);
int lq_repack_gguf(const uint8_t *blocks, int type, int rows, int cols, uint8_t *);
