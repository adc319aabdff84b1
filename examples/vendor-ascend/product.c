/* Products: a general dot becomes one product of matrices, or a batch of them. */
#include "plugin.h"

/* Bring dimensions of a view into three groups, each of which becomes one dimension; elements are copied where strides
   cannot say that. */
static view grouped(builder *b, view v, const int64_t *order, const int *sizes) {
    view p = permuted(v, order);
    int64_t dims[3];
    int at = 0, rank = p.rank;
    view merged = p;
    bool fits = true;
    for (int g = 0; g < 3; g++) {
        dims[g] = 1;
        int64_t step = 1;
        for (int i = at + sizes[g] - 1, inner = -1; i >= at; i--) {
            if (p.dims[i] != 1) {
                if (inner < 0)
                    step = p.strides[i];
                else if (p.strides[i] != step * dims[g])
                    fits = false;
                inner = i;
            }
            dims[g] *= p.dims[i];
        }
        merged.strides[g] = dims[g] == 1 ? 1 : step;
        at += sizes[g];
    }
    if (!fits) {
        view packed = scratch(b, v.type, rank, p.dims);
        copy(b, packed, p);
        return reshaped(packed, 3, dims);
    }
    merged.rank = 3;
    for (int g = 0; g < 3; g++)
        merged.dims[g] = dims[g];
    return merged;
}

/* A product of matrices [g,m,k] and [g,k,n] into [g,m,n]. */
void multiply(builder *b, view to, view left, view right) {
    argument cube = integer(b->device->cube);
    if (count_of(&to) > 0 && left.dims[2] == 0) {
        CALL(b, InplaceZero, ref(to));
        return;
    }
    if (to.dims[0] != 1) {
        CALL(b, BatchMatMul, in(left), in(right), out(to), cube);
        return;
    }
    view *all[3] = {&to, &left, &right};
    for (int i = 0; i < 3; i++) {
        view *v = all[i];
        v->rank = 2;
        for (int k = 0; k < 2; k++) {
            v->dims[k] = v->dims[k + 1];
            v->strides[k] = v->strides[k + 1];
        }
    }
    CALL(b, Mm, in(left), in(right), out(to), cube);
}

static void dot(builder *b) {
    const char *names[2][2] = {{"lhs_batch", "lhs_contract"}, {"rhs_batch", "rhs_contract"}};
    view sides[2] = {input(b, 0), input(b, 1)}, y = output(b, 0);
    if (!is_float(sides[0].type)) {
        refuse(b, "products of whole numbers");
        return;
    }
    /* 16-bit operands are multiplied as they are only when the result is rounded to them at once. */
    bool narrow = sides[0].type == sides[1].type && sides[0].type == y.type;
    int type = narrow ? y.type : ASCEND_FLOAT;
    for (int s = 0; s < 2; s++) {
        const percept_attribute *batch = percept_attribute_of(b->op, names[s][0]);
        const percept_attribute *contract = percept_attribute_of(b->op, names[s][1]);
        int64_t order[MAX_RANK];
        int rank = (int)b->op->inputs[s].rank, n = 0, sizes[3];
        int batches = (int)batch->count, contracted = (int)contract->count, free = rank - batches - contracted;
        for (int i = 0; i < batches; i++)
            order[n++] = batch->ints[i];
        for (int i = 0; s == 1 && i < contracted; i++)
            order[n++] = contract->ints[i];
        for (int i = 0; i < rank; i++) {
            bool used = false;
            for (int k = 0; k < batches; k++)
                used = used || batch->ints[k] == i;
            for (int k = 0; k < contracted; k++)
                used = used || contract->ints[k] == i;
            if (!used) order[n++] = i;
        }
        for (int i = 0; s == 0 && i < contracted; i++)
            order[n++] = contract->ints[i];
        sizes[0] = batches;
        sizes[1] = s == 0 ? free : contracted;
        sizes[2] = s == 0 ? contracted : free;
        view v = as_type(b, sides[s], type);
        if (rank == 0) order[0] = 0;
        v.rank = rank ? rank : 1;
        if (rank == 0) sizes[0] = 1;
        sides[s] = grouped(b, v, order, sizes);
    }
    int64_t dims[3] = {sides[0].dims[0], sides[0].dims[1], sides[1].dims[2]};
    view to = y.type == type ? reshaped(y, 3, dims) : scratch(b, type, 3, dims);
    multiply(b, to, sides[0], sides[1]);
    if (to.place == AT_SCRATCH) cast(b, reshaped(y, 3, dims), to);
}

/* x[m,k] and w[n,k] into y[m,n]. A bias is added before the result is rounded, an activation cannot be. */
static void linear(builder *b) {
    view x = input(b, 0), w = input(b, 1), y = output(b, 0);
    bool has_bias = percept_int(b->op, "bias", 0) != 0;
    if (percept_attribute_of(b->op, "act")) {
        refuse(b, "the library has no product with an activation");
        return;
    }
    int64_t k = w.dims[1], n = w.dims[0], m = n ? count_of(&y) / n : 0;
    const int64_t left[3] = {1, m, k}, right[3] = {1, n, k}, to[3] = {1, m, n}, swap[3] = {0, 2, 1};
    if (!has_bias || k == 0) {
        if (has_bias) {
            refuse(b, "a product of nothing with a bias");
            return;
        }
        multiply(b, reshaped(y, 3, to), reshaped(x, 3, left), permuted(reshaped(w, 3, right), swap));
        return;
    }
    const int64_t order[2] = {1, 0};
    CALL(b, Addmm, in(input(b, 2)), in(reshaped(x, 2, left + 1)), in(permuted(w, order)), scalar(1, ASCEND_FLOAT),
         scalar(1, ASCEND_FLOAT), out(reshaped(y, 2, to + 1)), integer(b->device->cube));
}

bool build_product(builder *b) {
    if (percept_is(b->op, "dot"))
        dot(b);
    else if (percept_is(b->op, "linear"))
        linear(b);
    else
        return false;
    return true;
}
