/* The documented restrictions of the operations: phase one answers with a status. */
#include "fake.h"

#include <string.h>

enum {
    F32 = 1,
    F16 = 2,
    BF16 = 4,
    I32 = 8,
    I64 = 16,
    I8 = 32,
    U8 = 64,
    BOOLEAN = 128,
    I4 = 256,
    FLOATS = F32 | F16 | BF16,
    WHOLES = I32 | I64 | I8 | U8,
    ALL = FLOATS | WHOLES | BOOLEAN
};

static int bit_of(int type) {
    switch (type) {
    case ASCEND_FLOAT:
        return F32;
    case ASCEND_FLOAT16:
        return F16;
    case ASCEND_BF16:
        return BF16;
    case ASCEND_INT32:
        return I32;
    case ASCEND_INT64:
        return I64;
    case ASCEND_INT8:
        return I8;
    case ASCEND_UINT8:
        return U8;
    case ASCEND_BOOL:
        return BOOLEAN;
    case ASCEND_INT4:
        return I4;
    default:
        return 0;
    }
}

/* The dtypes of all tensors of an operation together. */
static int types_of(enum ascend_op op) {
    switch (op) {
    case ASCEND_Neg:
    case ASCEND_Abs:
    case ASCEND_Sign:
        return FLOATS | I32 | I64 | I8;
    case ASCEND_LogicalNot:
    case ASCEND_LogicalAnd:
    case ASCEND_LogicalOr:
    case ASCEND_LogicalXor:
    case ASCEND_Add:
    case ASCEND_Sub:
    case ASCEND_Mul:
    case ASCEND_Maximum:
    case ASCEND_Minimum:
    case ASCEND_EqTensor:
    case ASCEND_NeTensor:
    case ASCEND_LtTensor:
    case ASCEND_LeTensor:
    case ASCEND_GtTensor:
    case ASCEND_GeTensor:
    case ASCEND_SWhere:
    case ASCEND_Cast:
    case ASCEND_Expand:
    case ASCEND_InplaceCopy:
    case ASCEND_InplaceZero:
    case ASCEND_IndexSelect:
    case ASCEND_Gather:
    case ASCEND_InplaceIndexCopy:
    case ASCEND_InplaceScatterUpdate:
    case ASCEND_Embedding:
    case ASCEND_All:
    case ASCEND_Any:
    case ASCEND_IsFinite:
        return ALL;
    case ASCEND_BitwiseNot:
    case ASCEND_BitwiseAndTensor:
    case ASCEND_BitwiseOrTensor:
    case ASCEND_BitwiseXorTensor:
        return WHOLES | BOOLEAN;
    case ASCEND_DivMod:
    case ASCEND_Muls:
    case ASCEND_Adds:
    case ASCEND_Clamp:
    case ASCEND_Arange:
    case ASCEND_IndexAdd:
    case ASCEND_Sort:
    case ASCEND_ReduceSum:
    case ASCEND_Amax:
    case ASCEND_Amin:
    case ASCEND_ProdDim:
    case ASCEND_ArgMax:
    case ASCEND_ArgMin:
    case ASCEND_Cumsum:
    case ASCEND_ApplyAdamWV2:
        return FLOATS | I32 | I64;
    case ASCEND_WeightQuantBatchMatmulV2:
        return F16 | BF16 | I8 | I4;
    case ASCEND_FusedInferAttentionScoreV2:
        return FLOATS | BOOLEAN | U8 | I8;
    case ASCEND_FlashAttentionScore:
        return FLOATS | BOOLEAN | U8;
    default:
        return FLOATS;
    }
}

/* What the documents do not list for the 310P. */
static bool absent(enum ascend_op op) {
    switch (op) {
    case ASCEND_Add:
    case ASCEND_Sub:
    case ASCEND_Div:
    case ASCEND_Exp:
    case ASCEND_LayerNorm:
    case ASCEND_RotaryPositionEmbedding:
    case ASCEND_FlashAttentionScore:
    case ASCEND_FusedInferAttentionScoreV2:
    case ASCEND_Gather:
    case ASCEND_InplaceScatterUpdate:
    case ASCEND_InplaceIndexCopy:
    case ASCEND_ApplyAdamWV2:
        return fake_is_310p();
    default:
        return false;
    }
}

#define REFUSE(...) return fake_refuse(FAKE_INVALID, __VA_ARGS__)

static bool same_dims(const aclTensor *a, const aclTensor *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

/* Whether an operand can be repeated to the result. */
static bool repeats_to(const aclTensor *a, const aclTensor *o) {
    if (a->rank > o->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        int64_t extent = o->dims[o->rank - a->rank + i];
        if (a->dims[i] != extent && a->dims[i] != 1) return false;
    }
    return true;
}

static aclnnStatus check_product(enum ascend_op op, const argument *a) {
    const aclTensor *x = a[0].tensor, *w = a[1].tensor, *y = a[2].tensor;
    int64_t cube = op == ASCEND_Addmm ? a[6].whole : a[3].whole;
    if (op == ASCEND_Addmm) {
        x = a[1].tensor;
        w = a[2].tensor;
        y = a[5].tensor;
        if (!repeats_to(a[0].tensor, y)) REFUSE("the bias does not fit");
    }
    int rank = op == ASCEND_BatchMatMul ? 3 : 2;
    if (x->rank != rank || w->rank != rank || y->rank != rank) REFUSE("products take %d dimensions", rank);
    if (rank == 3 && (x->dims[0] != y->dims[0] || w->dims[0] != y->dims[0])) REFUSE("batches differ");
    if (x->dims[rank - 1] != w->dims[rank - 2] || x->dims[rank - 2] != y->dims[rank - 2] ||
        w->dims[rank - 1] != y->dims[rank - 1])
        REFUSE("extents of a product do not fit");
    if (x->type != w->type) REFUSE("a product of two dtypes");
    if (fake_is_310p() && x->type == ASCEND_FLOAT && cube != 1) REFUSE("f32 products of this chip want cubeMathType 1");
    return 0;
}

static aclnnStatus check_mask(const aclTensor *mask, const aclTensor *q, const aclTensor *k) {
    if (!mask) return 0;
    if (fake_is_float(mask->type)) REFUSE("a mask is bool or whole numbers of 8 bits, 1 where a key is hidden");
    int r = mask->rank;
    if (r < 2 || mask->dims[r - 1] != k->dims[2] || mask->dims[r - 2] != q->dims[2]) REFUSE("the mask does not fit");
    if (r == 4 && (mask->dims[0] != q->dims[0] && mask->dims[0] != 1)) REFUSE("the mask's batch does not fit");
    return 0;
}

static aclnnStatus check_attention(enum ascend_op op, const argument *a) {
    bool infer = op == ASCEND_FusedInferAttentionScoreV2;
    const aclTensor *q = a[0].tensor, *k = infer ? a[1].list->tensors[0] : a[1].tensor;
    const aclTensor *v = infer ? a[2].list->tensors[0] : a[2].tensor, *mask = infer ? a[4].tensor : a[6].tensor;
    const char *layout = infer ? a[28].word : a[13].word;
    if (strcmp(layout, "BNSD") != 0) REFUSE("this stand-in knows the layout BNSD, not '%s'", layout);
    if (q->rank != 4 || k->rank != 4 || v->rank != 4) REFUSE("BNSD has four dimensions");
    if (infer && q->type == ASCEND_FLOAT) REFUSE("query is f16, bf16 or int8, not f32");
    if (q->type != k->type || q->type != v->type) REFUSE("query, key and value differ in dtype");
    if ((infer ? a[24].whole : a[12].whole) != q->dims[1] || (infer && a[29].whole != k->dims[1])) REFUSE("heads");
    if (q->dims[1] % k->dims[1] || q->dims[1] / k->dims[1] > 64) REFUSE("at most 64 heads share keys");
    if ((infer ? a[30].whole : a[15].whole) != 0) REFUSE("this stand-in knows sparse mode 0");
    if (infer && q->dims[2] == 1 && a[31].whole > 1) REFUSE("innerPrecise %d in decoding", (int)a[31].whole);
    return check_mask(mask, q, k);
}

static aclnnStatus check_fused_weights(const argument *a) {
    const aclTensor *x = a[0].tensor, *w = a[1].tensor, *scale = a[2].tensor, *offset = a[3].tensor, *y = a[8].tensor;
    int64_t group = a[7].whole, k = x->dims[1];
    if (x->rank != 2 || y->rank != 2 || w->rank != 2) REFUSE("matrices have two dimensions");
    if (x->type != scale->type || (offset && offset->type != x->type)) REFUSE("scales have the dtype of x");
    if (w->type != ASCEND_INT8 && w->type != ASCEND_INT4) REFUSE("weights are int8 or int4");
    if (group != 0 && (group % 32 || group < 32 || group > k - 1)) REFUSE("groups of %d with k %d", (int)group, (int)k);
    if (w->dims[0] != k || w->dims[1] != y->dims[1] || x->dims[0] != y->dims[0]) REFUSE("extents");
    if (group && (scale->dims[0] != (k + group - 1) / group || scale->dims[1] != w->dims[1]))
        REFUSE("extents of scales");
    return 0;
}

static aclnnStatus check(enum ascend_op op, const argument *a, int count) {
    if (absent(op)) REFUSE("%s is not on this chip", fake_op_name(op));
    int allowed = types_of(op);
    for (int i = 0; i < count; i++) {
        if (a[i].kind > T_LIST || a[i].null) continue;
        const aclTensor *t = a[i].kind == T_LIST ? a[i].list->tensors[0] : a[i].tensor;
        int type = bit_of(t->type);
        if (!(type & allowed) && op != ASCEND_ArgMax && !(i == count - 1 && type == BOOLEAN))
            REFUSE("%s does not take dtype %d as argument %d", fake_op_name(op), t->type, i);
        if (type == 0 || (type == BF16 && fake_is_310p())) REFUSE("dtype %d is not on this chip", t->type);
    }
    const aclTensor *first = a[0].kind <= T_REF ? a[0].tensor : NULL;
    const aclTensor *last = a[count - 1].kind <= T_REF ? a[count - 1].tensor : NULL;
    if (a[0].kind <= T_REF && !first) return fake_refuse(FAKE_NULL, "%s of a null tensor", fake_op_name(op));
    switch (op) {
    case ASCEND_Mm:
    case ASCEND_BatchMatMul:
    case ASCEND_Addmm:
        return check_product(op, a);
    case ASCEND_FusedInferAttentionScoreV2:
    case ASCEND_FlashAttentionScore:
        return check_attention(op, a);
    case ASCEND_WeightQuantBatchMatmulV2:
        return check_fused_weights(a);
    case ASCEND_SwiGlu:
        if (!fake_is_dense(first)) REFUSE("SwiGlu wants contiguous memory");
        break;
    case ASCEND_InplaceCopy:
        if (!repeats_to(a[1].tensor, first)) REFUSE("the source does not fit");
        if (first->type != a[1].tensor->type && (first->type == ASCEND_BOOL)) REFUSE("a copy to bool");
        break;
    case ASCEND_Cast:
        if (a[1].whole != last->type || !same_dims(first, last)) REFUSE("the result of a cast");
        break;
    case ASCEND_Mul:
    case ASCEND_Add:
    case ASCEND_Sub:
    case ASCEND_Div:
    case ASCEND_EqTensor:
    case ASCEND_GtTensor:
        if (!repeats_to(first, last) || !repeats_to(a[1].tensor, last)) REFUSE("operands do not fit the result");
        if (first->type != a[1].tensor->type) REFUSE("this stand-in promotes no dtypes");
        break;
    case ASCEND_RotaryPositionEmbedding:
        if (first->rank != 4 || a[1].tensor->dims[3] != first->dims[3] || first->dims[3] % 2)
            REFUSE("extents of a rotary embedding");
        if (first->type != a[1].tensor->type) REFUSE("cos and sin have the dtype of x");
        break;
    case ASCEND_InplaceScatterUpdate:
        if (a[3].whole != -1 && a[3].whole != -2) REFUSE("the axis is -1 or -2");
        break;
    case ASCEND_ApplyAdamWV2:
        if (fake_count_of(a[5].tensor) != 1) REFUSE("step has one element");
        break;
    default:
        break;
    }
    return 0;
}

static void compute(enum ascend_op op, const argument *a, int count) {
    if (fake_elementwise(op, a, count) || fake_moving(op, a) || fake_reducing(op, a) || fake_network(op, a)) return;
    if (!fake_attention(op, a)) fake_rule("the stand-in is whole", "it does not compute %s", fake_op_name(op));
}

__attribute__((constructor)) static void set_up(void) {
    fake_check = check;
    fake_compute = compute;
}
