// What the structs of model.h measure, field by field: the caller compares its own with it before it calls anything, since
// one of another version would be read at the wrong places.
#include "model.h"

typedef struct {
    const char *type, *field;
    uint64_t offset, size;
    char kind;  // i: int32, u: uint64, f: float, m: lq_matrix, p: pointer; of a whole struct: s
} lq_field;

#define KIND(x) _Generic((x), int32_t: 'i', uint64_t: 'u', float: 'f', lq_matrix: 'm', lq_matrix *: 'm', default: 'p')
#define WHOLE(type) {#type, "", 0, sizeof(type), 's'}
#define FIELD(type, field) \
    {#type, #field, offsetof(type, field), sizeof(((type *)0)->field), KIND(((type *)0)->field)}

static const lq_field fields[] = {
    WHOLE(lq_matrix),
    FIELD(lq_matrix, format),
    FIELD(lq_matrix, group),
    FIELD(lq_matrix, rows),
    FIELD(lq_matrix, cols),
    FIELD(lq_matrix, stride),
    FIELD(lq_matrix, bytes),
    FIELD(lq_matrix, data),
    FIELD(lq_matrix, bias),
    FIELD(lq_matrix, order),
    WHOLE(lq_layer),
    FIELD(lq_layer, qkv),
    FIELD(lq_layer, out),
    FIELD(lq_layer, gate_up),
    FIELD(lq_layer, down),
    FIELD(lq_layer, attention_norm),
    FIELD(lq_layer, ffn_norm),
    WHOLE(lq_model),
    FIELD(lq_model, num_layers),
    FIELD(lq_model, hidden),
    FIELD(lq_model, heads),
    FIELD(lq_model, kv_heads),
    FIELD(lq_model, head_dim),
    FIELD(lq_model, ffn),
    FIELD(lq_model, vocab),
    FIELD(lq_model, norm_eps),
    FIELD(lq_model, layers),
    FIELD(lq_model, final_norm),
    FIELD(lq_model, head),
    WHOLE(lq_kv),
    FIELD(lq_kv, num_blocks),
    FIELD(lq_kv, bytes),
    FIELD(lq_kv, keys),
    FIELD(lq_kv, values),
    WHOLE(lq_step),
    FIELD(lq_step, tokens),
    FIELD(lq_step, position),
    FIELD(lq_step, table),
    FIELD(lq_step, blocks),
    FIELD(lq_step, cosine),
    FIELD(lq_step, sine),
    FIELD(lq_step, hidden),
    FIELD(lq_step, wanted),
    FIELD(lq_step, wanted_token),
    FIELD(lq_step, logits),
    FIELD(lq_step, num_panels),
    FIELD(lq_step, panels),
    FIELD(lq_step, inputs),
};

EXPORT const lq_field *lq_layout(int32_t *count) {
    *count = sizeof fields / sizeof *fields;
    return fields;
}
