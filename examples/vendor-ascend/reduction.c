/* Reductions, arg-reductions and running sums. Dimensions are kept, with extent 1, so that no result is without any. */
#include "plugin.h"

static void reduce(builder *b, const char *kind) {
    view x = input(b, 0), y = output(b, 0), kept = x;
    const percept_attribute *axes = percept_attribute_of(b->op, "axes");
    int count = axes ? (int)axes->count : 0;
    for (int i = 0; i < count; i++)
        kept.dims[axes->ints[i]] = 1;
    if (count == 0) {
        copy(b, y, x);
        return;
    }
    if (count_of(&x) == 0) {
        refuse(b, "a reduction of nothing");
        return;
    }
    view to = reshaped(y, x.rank, kept.dims);
    argument over = ints(count, axes->ints);
    bool is_sum = strcmp(kind, "sum") == 0, is_product = strcmp(kind, "prod") == 0;
    if (is_sum || is_product) {
        /* Sums of 16-bit floats are kept in 32 bits. */
        int type = is_float(x.type) ? ASCEND_FLOAT : x.type;
        view wide = as_type(b, x, type), total = to.type == type ? to : scratch(b, type, x.rank, kept.dims);
        if (is_sum) {
            CALL(b, ReduceSum, in(wide), over, integer(1), integer(type), out(total));
        } else {
            if (count > 1) {
                refuse(b, "the library multiplies along one dimension");
                return;
            }
            CALL(b, ProdDim, in(wide), integer(axes->ints[0]), integer(1), integer(type), out(total));
        }
        if (total.place == AT_SCRATCH) cast(b, to, total);
    } else if (strcmp(kind, "max") == 0) {
        CALL(b, Amax, in(x), over, integer(1), out(to));
    } else if (strcmp(kind, "min") == 0) {
        CALL(b, Amin, in(x), over, integer(1), out(to));
    } else if (strcmp(kind, "and") == 0) {
        CALL(b, All, in(x), over, integer(1), out(to));
    } else {
        CALL(b, Any, in(x), over, integer(1), out(to));
    }
}

static void arg_reduce(builder *b) {
    view x = input(b, 0), kept = x;
    int axis = (int)percept_int(b->op, "axis", 0);
    kept.dims[axis] = 1;
    view to = reshaped(output(b, 0), x.rank, kept.dims);
    if (strcmp(percept_text(b->op, "kind"), "max") == 0)
        CALL(b, ArgMax, in(x), integer(axis), integer(1), out(to));
    else
        CALL(b, ArgMin, in(x), integer(axis), integer(1), out(to));
}

static void cum_sum(builder *b) {
    view x = input(b, 0), y = output(b, 0);
    int type = is_float(x.type) ? ASCEND_FLOAT : x.type;
    view wide = as_type(b, x, type), total = y.type == type ? y : scratch(b, type, y.rank, y.dims);
    CALL(b, Cumsum, in(wide), integer(percept_int(b->op, "axis", 0)), integer(type), out(total));
    if (total.place == AT_SCRATCH) cast(b, y, total);
}

bool build_reduction(builder *b) {
    if (strncmp(b->op->name, "reduce_", 7) == 0)
        reduce(b, b->op->name + 7);
    else if (percept_is(b->op, "arg_reduce"))
        arg_reduce(b);
    else if (percept_is(b->op, "cum_sum"))
        cum_sum(b);
    else
        return false;
    return true;
}
