/* Reductions, arg-reductions and running sums. Dimensions are kept, with extent 1, so that no result is without any. */
#include "plugin.h"

/* What a reduction of nothing gives, made from zeros. */
static void of_nothing(builder *b, view y, const char *kind) {
    bool is_max = strcmp(kind, "max") == 0, is_min = strcmp(kind, "min") == 0;
    view zero = bits(y);
    if (strcmp(kind, "sum") == 0 || strcmp(kind, "or") == 0) {
        CALL(b, InplaceZero, ref(zero));
        return;
    }
    if (!is_float(y.type) && y.type != ASCEND_BOOL) {
        refuse(b, "a reduction of nothing of whole numbers");
        return;
    }
    zero = scratch(b, y.type, y.rank, y.dims);
    CALL(b, InplaceZero, ref(zero));
    if (strcmp(kind, "and") == 0) {
        CALL(b, LogicalNot, in(zero), out(y));
    } else if (is_max || is_min) {
        /* The logarithm of 0 is -inf. */
        view low = is_max ? y : scratch(b, y.type, y.rank, y.dims);
        CALL(b, Log, in(zero), out(low));
        if (is_min) CALL(b, Neg, in(low), out(y));
    } else {
        CALL(b, Exp, in(zero), out(y));
    }
}

static void bounded(builder *b, enum ascend_op op, view x, argument over, view to) {
    view result = to.type == ASCEND_UINT32 ? scratch(b, ASCEND_INT32, to.rank, to.dims) : to;
    const argument a[4] = {in(in_order(b, x)), over, integer(1), out(result)};
    call(b, op, 4, a);
    if (result.place == AT_SCRATCH) out_of_order(b, to, result);
}

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
        of_nothing(b, y, kind);
        return;
    }
    view to = reshaped(y, x.rank, kept.dims);
    argument over = ints(count, axes->ints);
    bool is_sum = strcmp(kind, "sum") == 0, is_product = strcmp(kind, "prod") == 0;
    if (is_sum || is_product) {
        /* Sums of 16-bit floats are kept in 32 bits. */
        int type = is_float(x.type) ? ASCEND_FLOAT : bits(x).type;
        view wide = as_type(b, bits(x), type),
             total = bits(to).type == type ? bits(to) : scratch(b, type, x.rank, kept.dims);
        if (is_sum) {
            CALL(b, ReduceSum, in(wide), over, integer(1), integer(type), out(total));
        } else {
            /* The library multiplies along one dimension. */
            for (int i = 0; i < count; i++) {
                view next = wide;
                next.dims[axes->ints[i]] = 1;
                next = i == count - 1 ? total : scratch(b, type, x.rank, next.dims);
                CALL(b, ProdDim, in(wide), integer(axes->ints[i]), integer(1), integer(type), out(next));
                wide = next;
            }
        }
        if (total.place == AT_SCRATCH) cast(b, to, total);
    } else if (strcmp(kind, "max") == 0) {
        bounded(b, ASCEND_Amax, x, over, to);
    } else if (strcmp(kind, "min") == 0) {
        bounded(b, ASCEND_Amin, x, over, to);
    } else if (strcmp(kind, "and") == 0) {
        CALL(b, All, in(x), over, integer(1), out(to));
    } else {
        CALL(b, Any, in(x), over, integer(1), out(to));
    }
}

static void arg_reduce(builder *b) {
    view x = in_order(b, input(b, 0)), kept = x;
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
    int type = is_float(x.type) ? ASCEND_FLOAT : bits(x).type;
    view wide = as_type(b, bits(x), type), total = bits(y).type == type ? bits(y) : scratch(b, type, y.rank, y.dims);
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
