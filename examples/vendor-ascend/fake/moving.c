/* Copies, indices and sorting. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A shape as rows before an axis, the axis, and elements behind it. */
typedef struct split {
    int64_t before, extent, behind;
} split;

static split split_at(const aclTensor *t, int64_t axis) {
    split s = {1, 1, 1};
    if (axis < 0) axis += t->rank;
    for (int i = 0; i < t->rank; i++)
        *(i < axis ? &s.before : i == axis ? &s.extent : &s.behind) *= t->dims[i];
    return s;
}

static int64_t index_in(double value, int64_t extent, enum ascend_op op) {
    if (value < 0 || value >= (double)extent)
        fake_rule("indices are in range", "%s with index %g of %lld", fake_op_name(op), value, (long long)extent);
    return (int64_t)value;
}

/* Rows of x along an axis, found by indices. */
static void select_rows(enum ascend_op op, const aclTensor *x, int64_t axis, const aclTensor *indices,
                        const aclTensor *to) {
    split s = split_at(x, axis);
    int64_t n = fake_count_of(indices);
    double *from = fake_load(x), *at = fake_load(indices), *y = malloc((size_t)(fake_count_of(to) + 1) * sizeof *y);
    if (fake_count_of(to) != s.before * n * s.behind) fake_rule("extents", "the result of %s", fake_op_name(op));
    for (int64_t b = 0; b < s.before; b++)
        for (int64_t i = 0; i < n; i++)
            memcpy(y + (b * n + i) * s.behind, from + (b * s.extent + index_in(at[i], s.extent, op)) * s.behind,
                   (size_t)s.behind * sizeof *y);
    fake_store(to, y);
    free(from);
    free(at);
    free(y);
}

static void gather(const argument *a) {
    const aclTensor *x = &a[0].seen, *indices = &a[2].seen;
    split from = split_at(x, a[1].whole), to = split_at(indices, a[1].whole);
    double *v = fake_load(x), *at = fake_load(indices), *y = malloc((size_t)(fake_count_of(indices) + 1) * sizeof *y);
    if (from.before != to.before || from.behind != to.behind) fake_rule("extents", "the indices of aclnnGather");
    for (int64_t b = 0; b < to.before; b++)
        for (int64_t i = 0; i < to.extent; i++)
            for (int64_t e = 0; e < to.behind; e++) {
                int64_t n = (b * to.extent + i) * to.behind + e;
                y[n] = v[(b * from.extent + index_in(at[n], from.extent, ASCEND_Gather)) * from.behind + e];
            }
    fake_store(&a[3].seen, y);
    free(v);
    free(at);
    free(y);
}

/* x with rows of `source` along an axis set or added at indices. */
static void put_rows(enum ascend_op op, const aclTensor *x, int64_t axis, const aclTensor *indices,
                     const aclTensor *source, const aclTensor *to) {
    split s = split_at(x, axis);
    int64_t n = fake_count_of(indices);
    double *v = fake_load(x), *at = fake_load(indices), *rows = fake_load(source);
    if (fake_count_of(source) != s.before * n * s.behind) fake_rule("extents", "the source of %s", fake_op_name(op));
    for (int64_t b = 0; b < s.before; b++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t e = 0; e < s.behind; e++) {
                double *cell = v + (b * s.extent + index_in(at[i], s.extent, op)) * s.behind + e;
                double row = rows[(b * n + i) * s.behind + e];
                *cell = op == ASCEND_IndexAdd ? fake_round(x->type, *cell + row) : row;
            }
    fake_store(to, v);
    free(v);
    free(at);
    free(rows);
}

/* data[b, :, indices[b] ..] = updates[b], along axis -2. */
static void scatter_update(const argument *a) {
    const aclTensor *data = &a[0].seen, *updates = &a[2].seen;
    if (a[3].whole != -2 || data->rank != 4) fake_rule("the stand-in is whole", "scatter update along another axis");
    int64_t n = data->dims[0], h = data->dims[1], s = data->dims[2], d = data->dims[3], t = updates->dims[2];
    double *v = fake_load(data), *at = fake_load(&a[1].seen), *rows = fake_load(updates);
    for (int64_t b = 0; b < n; b++) {
        if (at[b] < 0 || at[b] + (double)t > (double)s)
            fake_rule("indices are in range", "aclnnInplaceScatterUpdate of %lld rows at %g of %lld", (long long)t,
                      at[b], (long long)s);
        for (int64_t i = 0; i < h; i++)
            memcpy(v + ((b * h + i) * s + (int64_t)at[b]) * d, rows + (b * h + i) * t * d, (size_t)(t * d) * sizeof *v);
    }
    fake_store(data, v);
    free(v);
    free(at);
    free(rows);
}

typedef struct item {
    double value;
    int64_t index;
    bool descending;
} item;

/* No number is the greatest; equal ones keep their order. */
static int compare(const void *left, const void *right) {
    const item *a = left, *b = right;
    int order = isnan(a->value) || isnan(b->value) ? (isnan(a->value) != 0) - (isnan(b->value) != 0)
                                                   : (a->value > b->value) - (a->value < b->value);
    if (a->descending) order = -order;
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

static void sort(const argument *a) {
    const aclTensor *x = &a[0].seen;
    split s = split_at(x, a[2].whole);
    double *v = fake_load(x), *order = fake_load(x);
    item *items = malloc((size_t)(s.extent + 1) * sizeof *items);
    for (int64_t b = 0; b < s.before * s.behind; b++) {
        int64_t start = b / s.behind * s.extent * s.behind + b % s.behind;
        for (int64_t i = 0; i < s.extent; i++)
            items[i] = (item){v[start + i * s.behind], i, a[3].whole != 0};
        qsort(items, (size_t)s.extent, sizeof *items, compare);
        for (int64_t i = 0; i < s.extent; i++) {
            v[start + i * s.behind] = items[i].value;
            order[start + i * s.behind] = (double)items[i].index;
        }
    }
    fake_store(&a[4].seen, v);
    fake_store(&a[5].seen, order);
    free(v);
    free(order);
    free(items);
}

bool fake_moving(enum ascend_op op, const argument *a) {
    switch (op) {
    case ASCEND_InplaceCopy: {
        double *v = fake_load_as(&a[1].seen, a[0].seen.rank, a[0].seen.dims);
        fake_store(&a[0].seen, v);
        free(v);
        return true;
    }
    case ASCEND_Expand: {
        double *v = fake_load_as(&a[0].seen, a[2].seen.rank, a[2].seen.dims);
        fake_store(&a[2].seen, v);
        free(v);
        return true;
    }
    case ASCEND_InplaceZero: {
        double *v = calloc((size_t)fake_count_of(&a[0].seen) + 1, sizeof *v);
        fake_store(&a[0].seen, v);
        free(v);
        return true;
    }
    case ASCEND_Arange: {
        int64_t n = fake_count_of(&a[3].seen);
        double *v = malloc((size_t)(n + 1) * sizeof *v);
        if (n != (int64_t)ceil((a[1].real - a[0].real) / a[2].real)) fake_rule("extents", "the result of aclnnArange");
        for (int64_t i = 0; i < n; i++)
            v[i] = a[0].real + (double)i * a[2].real;
        fake_store(&a[3].seen, v);
        free(v);
        return true;
    }
    case ASCEND_IndexSelect:
        select_rows(op, &a[0].seen, a[1].whole, &a[2].seen, &a[3].seen);
        return true;
    case ASCEND_Embedding:
        select_rows(op, &a[0].seen, 0, &a[1].seen, &a[2].seen);
        return true;
    case ASCEND_Gather:
        gather(a);
        return true;
    case ASCEND_IndexAdd:
        put_rows(op, &a[0].seen, a[1].whole, &a[2].seen, &a[3].seen, &a[5].seen);
        return true;
    case ASCEND_InplaceIndexCopy:
        put_rows(op, &a[0].seen, a[1].whole, &a[2].seen, &a[3].seen, &a[0].seen);
        return true;
    case ASCEND_InplaceScatterUpdate:
        scatter_update(a);
        return true;
    case ASCEND_Sort:
        sort(a);
        return true;
    default:
        return false;
    }
}
