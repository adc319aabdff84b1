/*
 * Operations on weights of Percept's blocks. The library takes whole numbers, scales and offsets apart, so a weight is
 * repacked when it is first used and kept beside its blocks (weights.c).
 */
#include "plugin.h"

void multiply(builder *b, view to, view left, view right);

/* A weight's rows as f32: those of `ids`, or all when there are none. */
static view dequantized(builder *b, uint32_t index, const view *ids) {
    const percept_tensor *t = &b->op->inputs[index];
    wants_weight(b, index, LAYOUT_PLAIN);
    weight_shape shape;
    if (!weight_layout(t, LAYOUT_PLAIN, &shape)) {
        refuse(b, "no layout of the library holds such a weight");
        return nothing();
    }
    int64_t rows = ids ? count_of(ids) : shape.rows, per_row = shape.columns / shape.group;
    const int64_t all[2] = {shape.rows, shape.columns}, scales[2] = {shape.rows, per_row};
    const int64_t split[3] = {rows, per_row, shape.group}, single[3] = {rows, per_row, 1};
    const int64_t picked[2] = {rows, shape.columns}, picked_scales[2] = {rows, per_row};
    view q = weight(index, 0, ASCEND_INT8, 2, all), parts[2];
    parts[0] = weight(index, shape.scales, ASCEND_FLOAT, 2, scales);
    parts[1] = weight(index, shape.offsets, ASCEND_FLOAT, 2, scales);
    if (ids) {
        view to = scratch(b, ASCEND_INT8, 2, picked);
        CALL(b, IndexSelect, in(q), integer(0), in(*ids), out(to));
        q = to;
        for (int i = 0; i < (shape.minima ? 2 : 1); i++) {
            to = scratch(b, ASCEND_FLOAT, 2, picked_scales);
            CALL(b, IndexSelect, in(parts[i]), integer(0), in(*ids), out(to));
            parts[i] = to;
        }
    }
    view whole = scratch(b, ASCEND_FLOAT, 3, split), scaled = scratch(b, ASCEND_FLOAT, 3, split), result = scaled;
    CALL(b, Cast, in(reshaped(q, 3, split)), integer(ASCEND_FLOAT), out(whole));
    CALL(b, Mul, in(whole), in(reshaped(parts[0], 3, single)), out(scaled));
    if (shape.minima) {
        result = whole; /* which is read no more */
        CALL(b, Add, in(scaled), in(reshaped(parts[1], 3, single)), scalar(1, ASCEND_FLOAT), out(result));
    }
    return reshaped(result, 2, picked);
}

/* Whether WeightQuantBatchMatmul takes it: 16-bit activations, scales that 16 bits hold. */
static bool fits_fused(const builder *b, const percept_tensor *w) {
    if (input(b, 0).type != ASCEND_FLOAT16 || w->dims[1] <= 32) return false;
    return w->dtype == PERCEPT_Q8_0 || w->dtype == PERCEPT_Q4_0 ||
           (w->dtype == PERCEPT_Q4_1 && b->device->offset_minima);
}

static void fused_dot(builder *b) {
    const percept_tensor *w = &b->op->inputs[1];
    weight_shape shape;
    wants_weight(b, 1, LAYOUT_FUSED);
    if (b->status != PERCEPT_OK || !weight_layout(w, LAYOUT_FUSED, &shape)) return;
    int64_t k = shape.columns, n = shape.rows, m = percept_elements(&b->op->inputs[0]) / k;
    const int64_t rows[2] = {n, k}, groups[2] = {n, k / 32}, left[2] = {m, k}, to[2] = {m, n}, swap[2] = {1, 0};
    view none = nothing(), offset = none;
    if (shape.minima) offset = permuted(weight(1, shape.offsets, ASCEND_FLOAT16, 2, groups), swap);
    view x = reshaped(input(b, 0), 2, left), y = reshaped(output(b, 0), 2, to);
    view q = permuted(weight(1, 0, shape.nibbles ? ASCEND_INT4 : ASCEND_INT8, 2, rows), swap);
    view scale = permuted(weight(1, shape.scales, ASCEND_FLOAT16, 2, groups), swap);
    CALL(b, WeightQuantBatchMatmulV2, in(x), in(q), in(scale), in(offset), in(none), in(none), in(none), integer(32),
         out(y));
}

static void quantized_dot(builder *b) {
    const percept_tensor *w = &b->op->inputs[1];
    bool transposed = percept_int(b->op, "transposed", 0) != 0;
    if (!transposed && fits_fused(b, w)) {
        fused_dot(b);
        return;
    }
    int64_t n = w->dims[0], k = w->dims[1], inner = transposed ? n : k, outer = transposed ? k : n;
    if (inner == 0 || outer == 0) {
        refuse(b, "a product of nothing");
        return;
    }
    int64_t m = percept_elements(&b->op->inputs[0]) / inner;
    const int64_t left[3] = {1, m, inner}, right[3] = {1, n, k}, to[3] = {1, m, outer}, swap[3] = {0, 2, 1};
    view all = dequantized(b, 1, NULL);
    if (b->status != PERCEPT_OK) return;
    view x = as_type(b, reshaped(input(b, 0), 3, left), ASCEND_FLOAT), y = reshaped(output(b, 0), 3, to);
    view result = y.type == ASCEND_FLOAT ? y : scratch(b, ASCEND_FLOAT, 3, to);
    view matrix = reshaped(all, 3, right);
    multiply(b, result, x, transposed ? matrix : permuted(matrix, swap));
    if (result.place == AT_SCRATCH) cast(b, y, result);
}

bool build_quantized(builder *b) {
    const percept_op *op = b->op;
    if (percept_is(op, "quantized_dot")) {
        quantized_dot(b);
    } else if (percept_is(op, "dequantize")) {
        view y = output(b, 0), all = dequantized(b, 0, NULL);
        if (b->status == PERCEPT_OK) cast(b, y, reshaped(all, y.rank, y.dims));
    } else if (percept_is(op, "embedding")) {
        view ids = input(b, 1), near = scratch(b, ASCEND_INT32, ids.rank, ids.dims), y = output(b, 0);
        int64_t count = count_of(&ids), last = op->inputs[0].dims[0] - 1;
        CALL(b, Clamp, in(ids), scalar(0, ASCEND_INT32), scalar((double)last, ASCEND_INT32), out(near));
        near = reshaped(near, 1, &count);
        view rows = dequantized(b, 0, &near);
        if (b->status == PERCEPT_OK) cast(b, y, reshaped(rows, y.rank, y.dims));
    } else {
        return false;
    }
    return true;
}
