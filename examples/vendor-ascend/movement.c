/* Movement: copies between views. The strides of a view make a transpose, a slice or a part of a concatenation. */
#include "plugin.h"

/* The operand with one dimension for each of the result's, of extent 1 where it is repeated, as the result. */
static void expand(builder *b, view to, view from) {
    if (count_of(&to) == count_of(&from))
        copy(b, to, reshaped(from, to.rank, to.dims));
    else
        CALL(b, Expand, in(bits(from)), ints(to.rank, to.dims), out(bits(to)));
}

static void broadcast(builder *b) {
    view x = input(b, 0), y = output(b, 0);
    const percept_attribute *axes = percept_attribute_of(b->op, "axes");
    int64_t dims[MAX_RANK];
    for (int i = 0; i < y.rank; i++)
        dims[i] = 1;
    for (uint32_t i = 0; i < b->op->inputs[0].rank; i++)
        dims[axes->ints[i]] = x.dims[i];
    expand(b, y, reshaped(x, y.rank, dims));
}

static void iota(builder *b) {
    view y = bits(output(b, 0));
    int axis = (int)percept_int(b->op, "axis", 0);
    int64_t n = y.dims[axis], dims[MAX_RANK];
    for (int i = 0; i < y.rank; i++)
        dims[i] = i == axis ? n : 1;
    bool alone = count_of(&y) == n;
    view row = alone ? reshaped(y, 1, &n) : scratch(b, y.type, 1, &n);
    CALL(b, Arange, scalar(0, ASCEND_INT32), scalar((double)n, ASCEND_INT32), scalar(1, ASCEND_INT32), out(row));
    if (!alone) expand(b, y, reshaped(row, y.rank, dims));
}

static void pad(builder *b) {
    view y = output(b, 0), x = input(b, 0), value = input(b, 1), inner = y;
    const percept_attribute *low = percept_attribute_of(b->op, "low");
    const percept_attribute *interior = percept_attribute_of(b->op, "interior");
    int64_t ones[MAX_RANK];
    for (int i = 0; i < y.rank; i++)
        ones[i] = 1;
    expand(b, y, reshaped(value, y.rank, ones));
    for (uint32_t i = 0; i < b->op->inputs[0].rank; i++)
        inner = part(inner, (int)i, low->ints[i], x.dims[i], interior->ints[i] + 1);
    copy(b, inner, x);
}

static void concat(builder *b) {
    view y = output(b, 0);
    int axis = (int)percept_int(b->op, "axis", 0);
    int64_t at = 0;
    for (uint32_t i = 0; i < b->op->input_count; i++) {
        view x = input(b, i);
        copy(b, part(y, axis, at, x.dims[axis], 1), x);
        at += x.dims[axis];
    }
}

static void slice(builder *b) {
    view x = input(b, 0), y = output(b, 0);
    const percept_attribute *start = percept_attribute_of(b->op, "start");
    const percept_attribute *stride = percept_attribute_of(b->op, "stride");
    for (uint32_t i = 0; i < b->op->inputs[0].rank; i++)
        x = part(x, (int)i, start->ints[i], y.dims[i], stride->ints[i]);
    copy(b, y, x);
}

bool build_movement(builder *b) {
    const percept_op *op = b->op;
    if (percept_is(op, "broadcast"))
        broadcast(b);
    else if (percept_is(op, "iota"))
        iota(b);
    else if (percept_is(op, "pad"))
        pad(b);
    else if (percept_is(op, "concat"))
        concat(b);
    else if (percept_is(op, "slice"))
        slice(b);
    else if (percept_is(op, "transpose")) {
        view x = input(b, 0);
        copy(b, output(b, 0), op->inputs[0].rank ? permuted(x, percept_attribute_of(op, "perm")->ints) : x);
    } else
        return false;
    return true;
}
