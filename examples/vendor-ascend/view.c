/* Views: what aclCreateTensor is told of elements. A reshape, a transpose or a slice is another view of the same bytes.
 */
#include "plugin.h"

int type_bytes(int type) {
    switch (type) {
    case ASCEND_INT64:
        return 8;
    case ASCEND_FLOAT16:
    case ASCEND_BF16:
        return 2;
    case ASCEND_INT8:
    case ASCEND_UINT8:
    case ASCEND_BOOL:
        return 1;
    default:
        return 4;
    }
}

bool is_float(int type) { return type == ASCEND_FLOAT || type == ASCEND_FLOAT16 || type == ASCEND_BF16; }

/* Of Percept's dtype; blocks are bytes to the library. */
static int type_of(uint32_t dtype) {
    switch (dtype) {
    case PERCEPT_F32:
        return ASCEND_FLOAT;
    case PERCEPT_F16:
        return ASCEND_FLOAT16;
    case PERCEPT_BF16:
        return ASCEND_BF16;
    case PERCEPT_I32:
        return ASCEND_INT32;
    case PERCEPT_U32:
        return ASCEND_UINT32;
    case PERCEPT_BOOL:
        return ASCEND_BOOL;
    default:
        return ASCEND_UINT8;
    }
}

static view dense_view(enum place place, uint32_t index, uint64_t offset, int type, int rank, const int64_t *dims) {
    view v = {.place = place, .index = index, .offset = offset, .type = type};
    v.rank = rank > MAX_RANK ? MAX_RANK : rank;
    for (int i = 0; i < v.rank; i++)
        v.dims[i] = dims[i];
    if (v.rank == 0) v.dims[v.rank++] = 1; /* the library's scalars on the device are tensors of one element */
    int64_t step = 1;
    for (int i = v.rank - 1; i >= 0; i--) {
        v.strides[i] = step;
        step *= v.dims[i];
    }
    v.elements = step;
    return v;
}

static view of_tensor(enum place place, uint32_t index, const percept_tensor *t) {
    return dense_view(place, index, 0, type_of(t->dtype), (int)t->rank, t->dims);
}

view input(const builder *b, uint32_t index) { return of_tensor(AT_INPUT, index, &b->op->inputs[index]); }

view output(const builder *b, uint32_t index) { return of_tensor(AT_OUTPUT, index, &b->op->outputs[index]); }

view nothing(void) { return (view){.place = AT_NOTHING}; }

view weight(uint32_t index, uint64_t offset, int type, int rank, const int64_t *dims) {
    return dense_view(AT_WEIGHT, index, offset, type, rank, dims);
}

view scratch_at(uint64_t offset, int type, int rank, const int64_t *dims) {
    return dense_view(AT_SCRATCH, 0, offset, type, rank, dims);
}

int64_t count_of(const view *v) {
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++)
        n *= v->dims[i];
    return n;
}

bool dense(const view *v) {
    int64_t step = 1;
    for (int i = v->rank - 1; i >= 0; i--) {
        if (v->dims[i] != 1 && v->strides[i] != step) return false;
        step *= v->dims[i];
    }
    return true;
}

/* Only of dense views, which those that are reshaped are. */
view reshaped(view v, int rank, const int64_t *dims) {
    view w = dense_view(v.place, v.index, v.offset, v.type, rank, dims);
    w.start = v.start;
    w.elements = v.elements;
    return w;
}

view permuted(view v, const int64_t *order) {
    view w = v;
    for (int i = 0; i < v.rank; i++) {
        w.dims[i] = v.dims[order[i]];
        w.strides[i] = v.strides[order[i]];
    }
    return w;
}

view part(view v, int axis, int64_t start, int64_t count, int64_t step) {
    v.start += start * v.strides[axis];
    v.dims[axis] = count;
    v.strides[axis] *= step;
    return v;
}

/* Unsigned words are no dtype of most operations, and moved as signed ones. */
view bits(view v) {
    if (v.type == ASCEND_UINT32) v.type = ASCEND_INT32;
    return v;
}

argument in(view v) { return (argument){.kind = ARG_IN, .tensor = v}; }
argument out(view v) { return (argument){.kind = ARG_OUT, .tensor = v}; }
argument ref(view v) { return (argument){.kind = ARG_REF, .tensor = v}; }
argument list(view v) { return (argument){.kind = ARG_LIST, .tensor = v}; }
argument scalar(double value, int type) { return (argument){.kind = ARG_SCALAR, .real = value, .integer = type}; }
argument integer(int64_t value) { return (argument){.kind = ARG_INT, .integer = value}; }
argument real(double value) { return (argument){.kind = ARG_REAL, .real = value}; }
argument text(const char *value) { return (argument){.kind = ARG_TEXT, .text = value}; }

argument ints(int count, const int64_t *values) {
    argument a = {.kind = ARG_INTS, .count = count};
    for (int i = 0; i < count && i < MAX_RANK; i++)
        a.ints[i] = values[i];
    return a;
}
