/* libnnopbase: tensors, scalars, lists and executors. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TENSOR = 0x7e50,
    SCALAR_MARK = 0x5ca1,
    ARRAY_MARK = 0xa44a,
    LIST_MARK = 0x1157,
    EXECUTOR = 0xe8ec,
    DEAD = 0xdead
};

int fake_bytes(int type) {
    switch (type) {
    case ASCEND_INT64:
        return 8;
    case ASCEND_FLOAT16:
    case ASCEND_BF16:
        return 2;
    case ASCEND_INT8:
    case ASCEND_UINT8:
    case ASCEND_BOOL:
    case ASCEND_INT4:
        return 1;
    default:
        return 4;
    }
}

void fake_reach(const aclTensor *t, const uint8_t **first, size_t *bytes) {
    int64_t last = 0;
    bool empty = false;
    for (int i = 0; i < t->rank; i++) {
        empty = empty || t->dims[i] == 0;
        last += (t->dims[i] - 1) * t->strides[i];
    }
    size_t each = (size_t)fake_bytes(t->type), from = (size_t)t->offset * each,
           to = (size_t)(t->offset + last + 1) * each;
    if (t->type == ASCEND_INT4) {
        from /= 2;
        to = (to + 1) / 2;
    }
    *first = t->data + from;
    *bytes = empty ? 0 : to - from;
}

/* Handles stay readable when they are destroyed, so that a late use can be told. */
static void kill_handle(uint32_t *mark, uint32_t expected, const char *what) {
    if (*mark == DEAD) fake_rule("live handles", "%s is destroyed twice", what);
    if (*mark != expected) fake_rule("live handles", "what is destroyed as %s is none", what);
    *mark = DEAD;
    fake_add(OBJECTS, -1);
}

static void check_address(const void *data, const char *call) {
    if ((uintptr_t)data % 32) fake_rule("addresses are aligned to 32 bytes", "%s with address %p", call, data);
    if (data && !fake_on_device(data, 0)) fake_rule("device memory", "%s with an address of no device memory", call);
}

EXPORTED aclTensor *aclCreateTensor(const int64_t *dims, uint64_t rank, aclDataType type, const int64_t *strides,
                                    int64_t offset, aclFormat format, const int64_t *storage, uint64_t storage_rank,
                                    void *data) {
    LOCKED;
    if (rank > FAKE_RANK || rank == 0) fake_rule("at most 8 dimensions", "a tensor of %d", (int)rank);
    if (format != ASCEND_FORMAT_ND) fake_rule("format", "this stand-in knows ND alone");
    check_address(data, "aclCreateTensor");
    aclTensor *t = calloc(1, sizeof *t);
    t->mark = TENSOR;
    t->type = (int)type;
    t->rank = (int)rank;
    t->offset = offset;
    t->elements = 1;
    t->data = data;
    for (uint64_t i = 0; i < storage_rank; i++)
        t->elements *= storage[i];
    int64_t last = offset, step = 1;
    bool empty = false;
    for (int i = (int)rank - 1; i >= 0; i--) {
        if (dims[i] < 0) fake_rule("extents", "dimension %d is %lld", i, (long long)dims[i]);
        t->dims[i] = dims[i];
        t->strides[i] = strides ? strides[i] : step;
        if (t->strides[i] < 1 && dims[i] > 1)
            fake_rule("strides", "dimension %d has stride %lld", i, (long long)strides[i]);
        step *= dims[i];
        last += (dims[i] - 1) * t->strides[i];
        empty = empty || dims[i] == 0;
    }
    if (!empty && last >= t->elements)
        fake_rule("strides", "a view reaches element %lld of a storage of %lld", (long long)last,
                  (long long)t->elements);
    fake_add(OBJECTS, 1);
    return t;
}

EXPORTED aclnnStatus aclDestroyTensor(const aclTensor *t) {
    LOCKED;
    if (t->listed) fake_rule("live handles", "a tensor of a list is destroyed on its own");
    kill_handle(&((aclTensor *)t)->mark, TENSOR, "a tensor");
    return 0;
}

EXPORTED aclScalar *aclCreateScalar(void *value, aclDataType type) {
    LOCKED;
    aclScalar *s = calloc(1, sizeof *s);
    s->mark = SCALAR_MARK;
    if (type == ASCEND_FLOAT) {
        float f;
        memcpy(&f, value, sizeof f);
        s->value = f;
    } else if (type == ASCEND_INT32) {
        int32_t i;
        memcpy(&i, value, sizeof i);
        s->value = i;
    } else {
        fake_rule("scalars", "this stand-in has those of f32 and int32, not dtype %d", (int)type);
    }
    fake_add(OBJECTS, 1);
    return s;
}

EXPORTED aclnnStatus aclDestroyScalar(const aclScalar *s) {
    LOCKED;
    kill_handle(&((aclScalar *)s)->mark, SCALAR_MARK, "a scalar");
    return 0;
}

EXPORTED aclIntArray *aclCreateIntArray(const int64_t *values, uint64_t count) {
    LOCKED;
    if (count > FAKE_RANK) fake_rule("at most 8 dimensions", "a list of %d", (int)count);
    aclIntArray *a = calloc(1, sizeof *a);
    a->mark = ARRAY_MARK;
    a->count = count;
    if (count) memcpy(a->values, values, count * sizeof *values);
    fake_add(OBJECTS, 1);
    return a;
}

EXPORTED aclnnStatus aclDestroyIntArray(const aclIntArray *a) {
    LOCKED;
    kill_handle(&((aclIntArray *)a)->mark, ARRAY_MARK, "an array");
    return 0;
}

EXPORTED aclTensorList *aclCreateTensorList(const aclTensor *const *tensors, uint64_t count) {
    LOCKED;
    aclTensorList *l = calloc(1, sizeof *l);
    if (count > FAKE_RANK) fake_rule("lists", "a list of %d tensors", (int)count);
    l->mark = LIST_MARK;
    l->count = count;
    for (uint64_t i = 0; i < count; i++) {
        l->tensors[i] = (aclTensor *)tensors[i];
        l->tensors[i]->listed = true;
    }
    fake_add(OBJECTS, 1);
    return l;
}

EXPORTED aclnnStatus aclDestroyTensorList(const aclTensorList *l) {
    LOCKED;
    kill_handle(&((aclTensorList *)l)->mark, LIST_MARK, "a list");
    for (uint64_t i = 0; i < l->count; i++)
        kill_handle(&l->tensors[i]->mark, TENSOR, "a tensor");
    return 0;
}

static aclOpExecutor *live(aclOpExecutor *e, const char *call) {
    if (!e) fake_rule("live handles", "%s with a null executor", call);
    if (e->mark == DEAD) fake_rule("an executor runs once unless it is repeatable", "%s after that", call);
    if (e->mark != EXECUTOR) fake_rule("live handles", "%s with what is no executor", call);
    return e;
}

EXPORTED aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor *executor) {
    LOCKED;
    aclOpExecutor *e = live(executor, "aclSetAclOpExecutorRepeatable");
    if (!e->can_repeat) return fake_refuse(FAKE_RUNTIME, "this executor cannot be repeatable");
    e->repeatable = true;
    return 0;
}

EXPORTED aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor *executor) {
    LOCKED;
    live(executor, "aclDestroyAclOpExecutor")->mark = DEAD;
    fake_add(OBJECTS, -1);
    return 0;
}

static aclnnStatus set_address(aclOpExecutor *e, size_t index, aclTensor *t, void *address, const char *call) {
    if (!live(e, call)->repeatable) fake_rule("only a repeatable executor takes addresses", "%s", call);
    check_address(address, call);
    size_t at = 0;
    for (int i = 0; i < e->count; i++) {
        argument *a = &e->arguments[i];
        if (a->kind > T_LIST) continue;
        if (at++ != index) continue;
        if (a->null)
            fake_rule("a tensor that was null cannot be set", "%s of argument %d of %s", call, i, fake_op_name(e->op));
        if (a->kind == T_REF)
            fake_rule("the address of an overwritten operand stays", "%s of argument %d of %s", call, i,
                      fake_op_name(e->op));
        const aclTensor *own = a->kind == T_LIST ? a->list->tensors[0] : a->tensor;
        if (own != t)
            fake_rule("the executor's own tensor is moved", "%s of argument %d of %s", call, i, fake_op_name(e->op));
        t->data = address;
        fake_add(SETTERS, 1);
        return 0;
    }
    return fake_refuse(FAKE_INVALID, "%s has no tensor %d", fake_op_name(e->op), (int)index);
}

EXPORTED aclnnStatus aclSetTensorAddr(aclOpExecutor *executor, const size_t index, aclTensor *t, void *address) {
    LOCKED;
    return set_address(executor, index, t, address, "aclSetTensorAddr");
}

EXPORTED aclnnStatus aclSetDynamicTensorAddr(aclOpExecutor *executor, size_t index, const size_t within,
                                             aclTensorList *tensors, void *address) {
    LOCKED;
    if (within >= tensors->count) return fake_refuse(FAKE_INVALID, "a list of %d", (int)tensors->count);
    return set_address(executor, index, tensors->tensors[within], address, "aclSetDynamicTensorAddr");
}

static void check_live_tensor(const aclTensor *t, enum ascend_op op) {
    if (t->mark != TENSOR)
        fake_rule("tensors outlive their executor", "%s with a tensor that was destroyed", fake_op_name(op));
}

aclnnStatus fake_plan(enum ascend_op op, int count, const argument *arguments, uint64_t *workspace,
                      aclOpExecutor **executor) {
    LOCKED;
    fake_need_context(fake_op_name(op));
    fake_add(QUERIES, 1);
    for (int i = 0; i < count; i++)
        if (arguments[i].kind <= T_REF && arguments[i].tensor) check_live_tensor(arguments[i].tensor, op);
    aclnnStatus status = fake_check(op, arguments, count);
    if (status != 0) return status;
    aclOpExecutor *e = calloc(1, sizeof *e);
    e->mark = EXECUTOR;
    e->op = op;
    e->count = count;
    memcpy(e->arguments, arguments, (size_t)count * sizeof *arguments);
    /* One operand and one result need none; the rest asks for sizes that differ. */
    e->workspace = count == 2 && op != ASCEND_InplaceCopy ? 0 : 512 + 32 * (uint64_t)(op % 7);
    const aclTensor *a = count > 0 ? arguments[0].tensor : NULL, *b = count > 1 ? arguments[1].tensor : NULL;
    /* A copy onto itself cannot be repeated. */
    e->can_repeat = !(op == ASCEND_InplaceCopy && a->data == b->data && a->offset == b->offset && a->elements > 0 &&
                      fake_on_device(a->data, 513));
    *workspace = e->workspace;
    *executor = e;
    fake_add(OBJECTS, 1);
    return 0;
}

aclnnStatus fake_launch(enum ascend_op op, void *workspace, uint64_t size, aclOpExecutor *executor,
                        aclrtStream stream) {
    LOCKED;
    const char *name = fake_op_name(op);
    fake_need_context(name);
    aclOpExecutor *e = live(executor, name);
    if (e->op != op)
        fake_rule("phase two of the same operation", "%s with an executor of %s", name, fake_op_name(e->op));
    if (e->workspace) {
        if (!workspace) fake_rule("workspace", "%s without any, of %d bytes", name, (int)e->workspace);
        if (size < e->workspace) fake_rule("workspace", "%s with %d bytes of %d", name, (int)size, (int)e->workspace);
        if (!fake_on_device(workspace, size))
            fake_rule("workspace", "%s with one that is no device memory of its size", name);
        if ((uintptr_t)workspace % 32) fake_rule("addresses are aligned to 32 bytes", "the workspace of %s", name);
    }
    task *t = calloc(1, sizeof *t);
    t->op = op;
    t->count = e->count;
    t->arguments = malloc((size_t)e->count * sizeof *t->arguments);
    t->workspace = e->workspace ? workspace : NULL;
    t->workspace_size = e->workspace;
    memcpy(t->arguments, e->arguments, (size_t)e->count * sizeof *t->arguments);
    for (int i = 0; i < e->count; i++) {
        argument *a = &t->arguments[i];
        if (a->kind > T_LIST || a->null) continue;
        const aclTensor *tensor = a->kind == T_LIST ? a->list->tensors[0] : a->tensor;
        check_live_tensor(tensor, op);
        a->seen = *tensor;
        const uint8_t *first;
        size_t bytes;
        fake_reach(tensor, &first, &bytes);
        if (bytes && !fake_on_device(first, bytes))
            fake_rule("stay within memory", "argument %d of %s reaches beyond its block", i, name);
    }
    fake_put(stream, t);
    fake_add(LAUNCHES, 1);
    if (e->used) fake_add(REPEATED, 1);
    e->used = true;
    if (!e->repeatable) {
        e->mark = DEAD;
        fake_add(OBJECTS, -1);
    }
    return 0;
}
