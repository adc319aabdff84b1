/* Reductions, positions of extremes, and running sums. */
#include "fake.h"

#include <math.h>
#include <stdlib.h>

static double start_of(enum ascend_op op) {
    switch (op) {
    case ASCEND_ProdDim:
    case ASCEND_All:
        return 1;
    case ASCEND_Amax:
        return -INFINITY;
    case ASCEND_Amin:
        return INFINITY;
    default:
        return 0;
    }
}

static double combine(enum ascend_op op, double so_far, double x) {
    switch (op) {
    case ASCEND_ReduceSum:
        return so_far + x;
    case ASCEND_ProdDim:
        return so_far * x;
    case ASCEND_Amax:
        return isnan(so_far) || isnan(x) ? NAN : x > so_far ? x : so_far;
    case ASCEND_Amin:
        return isnan(so_far) || isnan(x) ? NAN : x < so_far ? x : so_far;
    case ASCEND_All:
        return so_far != 0 && x != 0;
    default:
        return so_far != 0 || x != 0;
    }
}

/* Dimensions that are reduced are kept, with extent 1. */
static void reduce(enum ascend_op op, const aclTensor *x, const bool *reduced, const aclTensor *to) {
    int64_t n = fake_count_of(x), m = fake_count_of(to), index[FAKE_RANK] = {0};
    double *v = fake_load(x), *y = malloc((size_t)(m + 1) * sizeof *y);
    for (int64_t i = 0; i < m; i++)
        y[i] = start_of(op);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = 0;
        for (int d = 0; d < x->rank; d++)
            at = reduced[d] ? at : at * x->dims[d] + index[d];
        if (op == ASCEND_ProdDim && !fake_is_float(x->type))
            y[at] = (double)(int32_t)(uint32_t)((uint64_t)(int64_t)y[at] * (uint64_t)(int64_t)v[i]); /* they wrap */
        else
            y[at] = combine(op, y[at], v[i]);
        for (int d = x->rank - 1; d >= 0; d--) {
            if (++index[d] < x->dims[d]) break;
            index[d] = 0;
        }
    }
    fake_store(to, y);
    free(v);
    free(y);
}

static void along(enum ascend_op op, const aclTensor *x, int64_t axis, const aclTensor *to) {
    if (axis < 0) axis += x->rank;
    int64_t before = 1, extent = x->dims[axis], behind = 1;
    for (int i = 0; i < axis; i++)
        before *= x->dims[i];
    for (int i = (int)axis + 1; i < x->rank; i++)
        behind *= x->dims[i];
    double *v = fake_load(x), *y = malloc((size_t)(fake_count_of(to) + 1) * sizeof *y);
    for (int64_t r = 0; r < before * behind; r++) {
        int64_t start = r / behind * extent * behind + r % behind, best = 0;
        double sum = 0;
        for (int64_t i = 0; i < extent; i++) {
            double x_i = v[start + i * behind], most = v[start + best * behind];
            if (op == ASCEND_Cumsum) {
                sum += x_i;
                y[start + i * behind] = sum;
            } else if (!isnan(most) && (isnan(x_i) || (op == ASCEND_ArgMax ? x_i > most : x_i < most))) {
                best = i;
            }
        }
        if (op != ASCEND_Cumsum) y[r] = (double)best;
    }
    fake_store(to, y);
    free(v);
    free(y);
}

bool fake_reducing(enum ascend_op op, const argument *a) {
    bool reduced[FAKE_RANK] = {false};
    switch (op) {
    case ASCEND_ReduceSum:
    case ASCEND_Amax:
    case ASCEND_Amin:
    case ASCEND_All:
    case ASCEND_Any:
        for (uint64_t i = 0; i < a[1].array.count; i++)
            reduced[a[1].array.values[i]] = true;
        reduce(op, &a[0].seen, reduced, &a[op == ASCEND_ReduceSum ? 4 : 3].seen);
        return true;
    case ASCEND_ProdDim:
        reduced[a[1].whole] = true;
        reduce(op, &a[0].seen, reduced, &a[4].seen);
        return true;
    case ASCEND_ArgMax:
    case ASCEND_ArgMin:
    case ASCEND_Cumsum:
        along(op, &a[0].seen, a[1].whole, &a[3].seen);
        return true;
    default:
        return false;
    }
}
