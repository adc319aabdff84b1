/* Operations with indices. The library leaves an index out of range undefined, and Percept does not: indices are
   brought into range first. */
#include "plugin.h"

/* Indices limited to low .. high. */
static view limited(builder *b, view indices, double low, double high) {
    view to = scratch(b, ASCEND_INT32, indices.rank, indices.dims);
    CALL(b, Clamp, in(indices), scalar(low, ASCEND_INT32), scalar(high, ASCEND_INT32), out(to));
    return to;
}

static view flat(view v) {
    int64_t n = count_of(&v);
    return reshaped(v, 1, &n);
}

/* `count` indices from a start that is on the device, limited so that they fit an extent. */
static view range_from(builder *b, view start, int64_t count, int64_t extent) {
    view row = scratch(b, ASCEND_INT32, 1, &count), to = scratch(b, ASCEND_INT32, 1, &count);
    CALL(b, Arange, scalar(0, ASCEND_INT32), scalar((double)count, ASCEND_INT32), scalar(1, ASCEND_INT32), out(row));
    CALL(b, Add, in(row), in(limited(b, flat(start), 0, (double)(extent - count))), scalar(1, ASCEND_INT32), out(to));
    return to;
}

/* Rows of `x` along an axis. */
static void select_rows(builder *b, view to, view x, int axis, view indices) {
    CALL(b, IndexSelect, in(bits(x)), integer(axis), in(indices), out(bits(to)));
}

static void dynamic_slice(builder *b) {
    view x = input(b, 0), y = output(b, 0);
    int last = -1, rank = (int)b->op->inputs[0].rank;
    for (int i = 0; i < rank; i++)
        if (x.dims[i] != y.dims[i]) last = i;
    if (last < 0) {
        copy(b, y, x);
        return;
    }
    for (int i = 0; i <= last; i++) {
        if (x.dims[i] == y.dims[i]) continue;
        view indices = range_from(b, input(b, (uint32_t)i + 1), y.dims[i], x.dims[i]);
        int64_t dims[MAX_RANK];
        for (int k = 0; k < rank; k++)
            dims[k] = k == i ? y.dims[k] : x.dims[k];
        view to = i == last ? y : scratch(b, y.type, rank, dims);
        select_rows(b, to, x, i, indices);
        x = to;
    }
}

/* Overwrite the block of `x` that begins at starts, from one axis on. */
static void update_block(builder *b, view x, view update, int axis) {
    while (axis < x.rank && x.dims[axis] == update.dims[axis])
        axis++;
    if (axis >= x.rank) {
        copy(b, x, update);
        return;
    }
    int next = axis + 1;
    while (next < x.rank && x.dims[next] == update.dims[next])
        next++;
    view indices = range_from(b, input(b, (uint32_t)axis + 2), update.dims[axis], x.dims[axis]);
    if (next < x.rank) {
        /* The rows as they are, of which a part changes. */
        int64_t dims[MAX_RANK];
        for (int k = 0; k < x.rank; k++)
            dims[k] = k == axis ? update.dims[k] : x.dims[k];
        view rows = scratch(b, x.type, x.rank, dims);
        select_rows(b, rows, x, axis, indices);
        update_block(b, rows, update, next);
        update = rows;
    }
    CALL(b, InplaceIndexCopy, ref(bits(x)), integer(axis), in(indices), in(bits(update)));
}

static void gather(builder *b) {
    view x = input(b, 0), y = output(b, 0), indices = flat(input(b, 1));
    int axis = (int)percept_int(b->op, "axis", 0);
    if (x.dims[axis] == 0) {
        refuse(b, "rows of nothing");
        return;
    }
    int64_t dims[MAX_RANK];
    for (int i = 0; i < x.rank; i++)
        dims[i] = i == axis ? indices.dims[0] : x.dims[i];
    select_rows(b, reshaped(y, x.rank, dims), x, axis, limited(b, indices, 0, (double)(x.dims[axis] - 1)));
}

/* Updates of one scatter, above which the matrix that finds the last of each index is too large. */
enum { MOST_UPDATES = 2048 };

/*
 * Rows are set, and the last update of an index wins. The library does not say which one does, so all updates of an
 * index are made to bring the row of the last; those out of range bring the row that is there.
 */
static void scatter_set(builder *b, view y, view updates, view indices, int axis) {
    int64_t n = indices.dims[0];
    if (n > MOST_UPDATES) {
        refuse(b, "%lld updates, of which the last of each index is to be found, and %d can be", (long long)n,
               MOST_UPDATES);
        return;
    }
    const int64_t grid[2] = {n, n}, down[2] = {n, 1}, across[2] = {1, n}, second = 1, one = 1;
    view near = limited(b, indices, 0, (double)(y.dims[axis] - 1)), row = scratch(b, ASCEND_INT32, 1, &n);
    view zero = scratch(b, ASCEND_INT32, 1, &one), same = scratch(b, ASCEND_BOOL, 2, grid);
    view found = scratch(b, ASCEND_INT32, 2, grid), last = scratch(b, ASCEND_INT32, 2, down);
    view is_there = scratch(b, ASCEND_BOOL, 1, &n), before = scratch(b, ASCEND_INT32, 1, &n);
    /* Update i is to bring update last[i] - 1. */
    CALL(b, InplaceZero, ref(zero));
    CALL(b, Arange, scalar(1, ASCEND_INT32), scalar((double)(n + 1), ASCEND_INT32), scalar(1, ASCEND_INT32), out(row));
    CALL(b, EqTensor, in(reshaped(near, 2, down)), in(reshaped(indices, 2, across)), out(same));
    CALL(b, SWhere, in(same), in(reshaped(row, 2, across)), in(zero), out(found));
    CALL(b, Amax, in(found), ints(1, &second), integer(1), out(last));
    CALL(b, GtTensor, in(reshaped(last, 1, &n)), in(zero), out(is_there));
    CALL(b, Adds, in(reshaped(last, 1, &n)), scalar(-1, ASCEND_INT32), scalar(1, ASCEND_INT32), out(before));
    view brought = scratch(b, y.type, y.rank, updates.dims), old = scratch(b, y.type, y.rank, updates.dims);
    view rows = scratch(b, y.type, y.rank, updates.dims);
    int64_t dims[MAX_RANK];
    for (int i = 0; i < y.rank; i++)
        dims[i] = i == axis ? n : 1;
    select_rows(b, brought, updates, axis, limited(b, before, 0, (double)(n - 1)));
    select_rows(b, old, y, axis, near);
    CALL(b, SWhere, in(reshaped(is_there, y.rank, dims)), in(bits(brought)), in(bits(old)), out(bits(rows)));
    CALL(b, InplaceIndexCopy, ref(bits(y)), integer(axis), in(near), in(bits(rows)));
}

static void scatter(builder *b) {
    view x = input(b, 0), y = output(b, 0), updates = input(b, 2), indices = flat(input(b, 1));
    int axis = (int)percept_int(b->op, "axis", 0);
    int64_t dims[MAX_RANK], n = x.dims[axis];
    in_place(b, 0, 0);
    if (count_of(&updates) == 0 || count_of(&x) == 0) {
        copy(b, y, x);
        return;
    }
    for (int i = 0; i < x.rank; i++)
        dims[i] = i == axis ? indices.dims[0] : x.dims[i];
    updates = reshaped(updates, x.rank, dims);
    if (strcmp(percept_text(b->op, "kind"), "add") != 0) {
        copy(b, y, x);
        scatter_set(b, y, updates, indices, axis);
        return;
    }
    x = bits(x);
    y = bits(y);
    int type = is_float(x.type) ? ASCEND_FLOAT : x.type;
    if (type != ASCEND_FLOAT && type != ASCEND_INT32) {
        refuse(b, "sums of this dtype");
        return;
    }
    /* With a row before and one behind, which take what is out of range. */
    dims[axis] = n + 2;
    view wide = scratch(b, type, x.rank, dims), sums = scratch(b, type, x.rank, dims);
    CALL(b, InplaceZero, ref(wide));
    cast(b, part(wide, axis, 1, n, 1), x);
    view shifted = scratch(b, ASCEND_INT32, 1, indices.dims);
    CALL(b, Adds, in(limited(b, indices, -1, (double)n)), scalar(1, ASCEND_INT32), scalar(1, ASCEND_INT32),
         out(shifted));
    updates = as_type(b, bits(updates), type);
    CALL(b, IndexAdd, in(wide), integer(axis), in(shifted), in(updates), scalar(1, type), out(sums));
    cast(b, y, part(sums, axis, 1, n, 1));
}

static void sort(builder *b) {
    view x = in_order(b, input(b, 0)), values = output(b, 0), indices = output(b, 1);
    int axis = (int)percept_int(b->op, "axis", 0);
    bool whole = values.dims[axis] == x.dims[axis] && values.type == x.type;
    view sorted = whole ? values : scratch(b, x.type, x.rank, x.dims), order = scratch(b, ASCEND_INT64, x.rank, x.dims);
    CALL(b, Sort, in(x), integer(1), integer(axis), integer(percept_int(b->op, "descending", 0)), out(sorted),
         out(order));
    if (!whole) out_of_order(b, values, part(sorted, axis, 0, values.dims[axis], 1));
    cast(b, indices, part(order, axis, 0, values.dims[axis], 1));
}

static void embedding(builder *b) {
    view table = input(b, 0), ids = input(b, 1);
    CALL(b, Embedding, in(table), in(limited(b, ids, 0, (double)(table.dims[0] - 1))), out(output(b, 0)));
}

/*
 * Rows pos .. pos + t of a cache are replaced, and rows outside of it dropped, which InplaceScatterUpdate does not do.
 * So the window is moved into range, and rows of it that the new ones do not reach get what is there.
 */
static void kv_append(builder *b) {
    view cache = input(b, 0), rows = input(b, 1), pos = input(b, 2), y = output(b, 0);
    if (percept_int(b->op, "paged", 0)) {
        refuse(b, "pages are found by a table on the device");
        return;
    }
    int64_t s = cache.dims[2], t = rows.dims[2], n = cache.dims[0];
    if (t > s) {
        refuse(b, "more new rows than the cache has");
        return;
    }
    copy(b, y, cache);
    in_place(b, 0, 0);
    if (count_of(&rows) == 0) return;
    int64_t heads = cache.dims[1], d = cache.dims[3];
    const int64_t each[2] = {n, 1}, across[2] = {1, t}, grid[2] = {n, t}, spread[4] = {n, 1, t, 1};
    view start = limited(b, pos, 0, (double)(s - t)), step = scratch(b, ASCEND_INT32, 1, &t);
    view at = scratch(b, ASCEND_INT32, 2, grid), source = scratch(b, ASCEND_INT32, 2, grid);
    CALL(b, Arange, scalar(0, ASCEND_INT32), scalar((double)t, ASCEND_INT32), scalar(1, ASCEND_INT32), out(step));
    CALL(b, Add, in(reshaped(step, 2, across)), in(reshaped(start, 2, each)), scalar(1, ASCEND_INT32), out(at));
    /* Row i of the window is new row start + i - pos. */
    CALL(b, Sub, in(at), in(reshaped(pos, 2, each)), scalar(1, ASCEND_INT32), out(source));
    view near = limited(b, source, 0, (double)(t - 1)), is_new = scratch(b, ASCEND_BOOL, 2, grid);
    CALL(b, EqTensor, in(near), in(source), out(is_new));
    const int64_t window[4] = {n, heads, t, d};
    view there = scratch(b, ASCEND_INT32, 4, window), old = scratch(b, cache.type, 4, window);
    view update = scratch(b, cache.type, 4, window), moved = rows;
    CALL(b, Expand, in(reshaped(at, 4, spread)), ints(4, window), out(there));
    CALL(b, Gather, in(y), integer(2), in(there), out(old));
    if (t > 1) {
        view from = scratch(b, ASCEND_INT32, 4, window);
        moved = scratch(b, cache.type, 4, window);
        CALL(b, Expand, in(reshaped(near, 4, spread)), ints(4, window), out(from));
        CALL(b, Gather, in(rows), integer(2), in(from), out(moved));
    }
    CALL(b, SWhere, in(reshaped(is_new, 4, spread)), in(moved), in(old), out(update));
    CALL(b, InplaceScatterUpdate, ref(y), in(start), in(update), integer(-2));
}

bool build_indexing(builder *b) {
    const percept_op *op = b->op;
    if (percept_is(op, "dynamic_slice"))
        dynamic_slice(b);
    else if (percept_is(op, "dynamic_update_slice")) {
        copy(b, output(b, 0), input(b, 0));
        in_place(b, 0, 0);
        update_block(b, output(b, 0), input(b, 1), 0);
    } else if (percept_is(op, "gather"))
        gather(b);
    else if (percept_is(op, "scatter"))
        scatter(b);
    else if (percept_is(op, "sort"))
        sort(b);
    else if (percept_is(op, "embedding") && op->inputs[0].dtype <= PERCEPT_BF16)
        embedding(b);
    else if (percept_is(op, "kv_append"))
        kv_append(b);
    else
        return false;
    return true;
}
