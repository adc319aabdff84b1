/*
 * Plans: an operation of Percept's as calls of the library.
 *
 * Phase one of every call is asked when the operation is, which tells whether this chip has it for these types, and how
 * much workspace it takes. Its executor is made repeatable and used again at each launch with other addresses. A call
 * that overwrites an operand is bound to that operand's address, since setting addresses does not reach the reference
 * that the executor keeps to its result: such a call has one executor for each address that it has met.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "plugin.h"

/* An executor with the objects that it was made of. */
typedef struct variant {
    struct variant *next;
    aclOpExecutor *executor;
    bound *bounds;
    uint64_t workspace;
    bool repeatable;
} variant;

typedef struct planned_call {
    enum ascend_op op;
    int count;
    argument *arguments;
    variant *variants; /* the last used first */
    int variant_count;
    uint64_t workspace; /* the most that a variant asked for when the plan was made */
    bool is_copy, has_ref;
} planned_call;

struct percept_plan_s {
    percept_device *device;
    planned_call calls[MAX_CALLS];
    int call_count;
    uint64_t scratch;   /* bytes of intermediate results; the library's workspace follows them */
    uint64_t workspace; /* the most that one call takes */
    uint32_t in_place_count;
    uint32_t in_place[8][2];
    wanted_weight wanted[2];
    int wanted_count;
};

/* Executors that a call keeps for addresses of what it overwrites. */
enum { MOST_VARIANTS = 512 };
enum { ALIGNMENT = 512 };

/* ---- Executors ------------------------------------------------------------------------------------------------- */

static bool is_tensor(const argument *a) { return a->kind <= ARG_LIST && a->tensor.place != AT_NOTHING; }

static void free_bounds(const functions *f, bound *bounds, int count) {
    for (int i = 0; i < count; i++) {
        bound *b = &bounds[i];
        if (b->list)
            (void)f->aclDestroyTensorList(b->list); /* with its tensor */
        else if (b->tensor)
            (void)f->aclDestroyTensor(b->tensor);
        if (b->scalar) (void)f->aclDestroyScalar(b->scalar);
        if (b->ints) (void)f->aclDestroyIntArray(b->ints);
    }
    free(bounds);
}

static void free_variant(const functions *f, variant *v, int count) {
    if (v->executor) (void)f->aclDestroyAclOpExecutor(v->executor);
    free_bounds(f, v->bounds, count);
    free(v);
}

static aclTensor *new_tensor(const functions *f, const view *v, void *address) {
    bool whole = v->start == 0 && dense(v) && count_of(v) == v->elements;
    return f->aclCreateTensor(v->dims, (uint64_t)v->rank, (aclDataType)v->type, v->strides, v->start,
                              (aclFormat)ASCEND_FORMAT_ND, whole ? v->dims : &v->elements,
                              whole ? (uint64_t)v->rank : 1, address);
}

static aclScalar *new_scalar(const functions *f, const argument *a) {
    float narrow = (float)a->real;
    int32_t whole = (int32_t)a->real;
    bool is_whole = a->integer == ASCEND_INT32;
    return f->aclCreateScalar(is_whole ? (void *)&whole : (void *)&narrow,
                              (aclDataType)(is_whole ? ASCEND_INT32 : ASCEND_FLOAT));
}

/* Make the arguments of a call, whose tensors lie at these addresses. */
static bound *bind(const functions *f, const planned_call *c, void *const *addresses) {
    bound *bounds = calloc((size_t)c->count, sizeof *bounds);
    for (int i = 0; bounds && i < c->count; i++) {
        const argument *a = &c->arguments[i];
        bound *b = &bounds[i];
        b->real = a->real;
        b->integer = a->integer;
        if (is_tensor(a)) {
            b->address = addresses[i];
            b->tensor = new_tensor(f, &a->tensor, addresses[i]);
        }
        if (a->kind == ARG_LIST) {
            const aclTensor *only = b->tensor;
            b->list = f->aclCreateTensorList(&only, 1);
        }
        if (a->kind == ARG_SCALAR) b->scalar = new_scalar(f, a);
        if (a->kind == ARG_INTS && a->count >= 0) b->ints = f->aclCreateIntArray(a->ints, (uint64_t)a->count);
        if (a->kind == ARG_TEXT) (void)snprintf(b->text, sizeof b->text, "%s", a->text);
    }
    return bounds;
}

/* Phase one. Null with the library's status when it refuses. */
static variant *new_variant(const functions *f, const planned_call *c, void *const *addresses, aclnnStatus *status) {
    variant *v = calloc(1, sizeof *v);
    *status = -1;
    if (!v) return NULL;
    v->bounds = bind(f, c, addresses);
    if (v->bounds) *status = ascend_phase_one(f, c->op, v->bounds, &v->workspace, &v->executor);
    if (*status != 0) {
        if (v->bounds) free_bounds(f, v->bounds, c->count);
        free(v);
        return NULL;
    }
    v->repeatable = v->executor && f->aclSetAclOpExecutorRepeatable(v->executor) == 0;
    return v;
}

/* ---- Building --------------------------------------------------------------------------------------------------- */

void refuse(builder *b, const char *format, ...) {
    if (b->status != PERCEPT_OK) return;
    b->status = PERCEPT_UNSUPPORTED;
    va_list rest;
    va_start(rest, format);
    (void)vsnprintf(b->message->text, (size_t)b->message->capacity, format, rest);
    va_end(rest);
}

view scratch(builder *b, int type, int rank, const int64_t *dims) {
    view v = scratch_at(b->plan->scratch, type, rank, dims);
    uint64_t bytes = (uint64_t)v.elements * (uint64_t)type_bytes(type);
    b->plan->scratch += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return v;
}

void in_place(builder *b, uint32_t operand, uint32_t result) {
    percept_plan *plan = b->plan;
    if (plan->in_place_count == 8) return;
    plan->in_place[plan->in_place_count][0] = operand;
    plan->in_place[plan->in_place_count++][1] = result;
}

void wants_weight(builder *b, uint32_t index, int layout) {
    percept_plan *plan = b->plan;
    const percept_tensor *tensor = &b->op->inputs[index];
    if (plan->wanted_count == 2) {
        refuse(b, "more than two quantized operands");
        return;
    }
    wanted_weight *w = &plan->wanted[plan->wanted_count++];
    *w = (wanted_weight){.index = index, .layout = layout, .tensor = *tensor};
    w->dims[0] = tensor->dims[0];
    w->dims[1] = tensor->dims[1];
    w->tensor.dims = NULL; /* the host's, which are gone after this call; ours are put in when they are read */
    if (!weight_layout(tensor, layout, &w->shape)) refuse(b, "no layout of its library holds such a weight");
}

void call(builder *b, enum ascend_op op, int count, const argument *arguments) {
    if (b->status != PERCEPT_OK) return;
    percept_plan *plan = b->plan;
    const functions *f = b->device->f;
    bool writes = false;
    for (int i = 0; i < count; i++) {
        const argument *a = &arguments[i];
        if ((a->kind == ARG_OUT || a->kind == ARG_REF) && is_tensor(a) && count_of(&a->tensor) > 0) writes = true;
    }
    if (!writes) return;
    if (!f->ops[op].phase_one) {
        refuse(b, "no library has %s", f->ops[op].name);
        return;
    }
    if (plan->call_count == MAX_CALLS) {
        refuse(b, "it takes more than %d calls", MAX_CALLS);
        return;
    }
    planned_call c = {.op = op, .count = count};
    c.arguments = malloc((size_t)count * sizeof *arguments);
    if (!c.arguments) {
        b->status = percept_fail(b->message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a plan");
        return;
    }
    memcpy(c.arguments, arguments, (size_t)count * sizeof *arguments);
    void *addresses[MAX_ARGUMENTS];
    for (int i = 0; i < count; i++) {
        addresses[i] = b->device->dummy;
        c.has_ref = c.has_ref || arguments[i].kind == ARG_REF;
    }
    aclnnStatus status = 0;
    variant *first = new_variant(f, &c, addresses, &status);
    if (!first) {
        free(c.arguments);
        char words[256];
        ascend_words(b->device, words, sizeof words);
        refuse(b, "%s says %d%s", f->ops[op].name, (int)status, words);
        return;
    }
    c.workspace = first->workspace;
    if (first->repeatable && !c.has_ref) {
        c.variants = first;
        c.variant_count = 1;
    } else {
        free_variant(f, first, count);
    }
    if (c.workspace > plan->workspace) plan->workspace = c.workspace;
    plan->calls[plan->call_count++] = c;
}

void copy(builder *b, view to, view from) {
    int before = b->plan->call_count;
    CALL(b, InplaceCopy, ref(bits(to)), in(bits(from)));
    if (b->plan->call_count > before) b->plan->calls[before].is_copy = true;
}

void cast(builder *b, view to, view from) {
    if (to.type == from.type)
        copy(b, to, from);
    else
        CALL(b, Cast, in(from), integer(to.type), out(to));
}

view as_type(builder *b, view v, int type) {
    if (v.type == type) return v;
    view to = scratch(b, type, v.rank, v.dims);
    cast(b, to, v);
    return to;
}

view in_order(builder *b, view v) {
    if (v.type != ASCEND_UINT32) return v;
    view to = scratch(b, ASCEND_INT32, v.rank, v.dims);
    CALL(b, Adds, in(bits(v)), scalar(INT32_MIN, ASCEND_INT32), scalar(1, ASCEND_INT32), out(to));
    return to;
}

void out_of_order(builder *b, view to, view from) {
    if (to.type != ASCEND_UINT32)
        copy(b, to, from);
    else
        CALL(b, Adds, in(from), scalar(INT32_MIN, ASCEND_INT32), scalar(1, ASCEND_INT32), out(bits(to)));
}

static void plan_free(percept_device *device, percept_plan *plan) {
    percept_message none = {sizeof none, NULL, 0};
    (void)ascend_enter(device, &none);
    for (int i = 0; i < plan->call_count; i++) {
        planned_call *c = &plan->calls[i];
        while (c->variants) {
            variant *v = c->variants;
            c->variants = v->next;
            free_variant(device->f, v, c->count);
        }
        free(c->arguments);
    }
    free(plan);
}

static percept_status query(percept_device *device, const percept_op *op, percept_planned *planned,
                            percept_message *message) {
    static bool (*const parts[])(builder *) = {build_elementwise, build_movement,  build_indexing,
                                               build_reduction,   build_product,   build_quantized,
                                               build_composite,   build_attention, build_training};
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    percept_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a plan");
    plan->device = device;
    builder b = {device, op, plan, message, PERCEPT_OK};
    for (uint64_t i = 0; i < op->input_count; i++)
        if (op->inputs[i].rank > MAX_RANK) refuse(&b, "the library takes at most %d dimensions", MAX_RANK);
    for (uint64_t i = 0; i < op->output_count; i++)
        if (op->outputs[i].rank > MAX_RANK) refuse(&b, "the library takes at most %d dimensions", MAX_RANK);
    bool known = b.status != PERCEPT_OK;
    for (size_t i = 0; !known && i < sizeof parts / sizeof parts[0]; i++)
        known = parts[i](&b);
    if (!known) refuse(&b, "%s is not mapped to the library", op->name);
    if (plan->scratch + plan->workspace > device->memory_bytes)
        refuse(&b, "it takes %llu bytes of scratch memory, and the device has %llu",
               (unsigned long long)(plan->scratch + plan->workspace), (unsigned long long)device->memory_bytes);
    if (b.status != PERCEPT_OK) {
        plan_free(device, plan);
        return b.status;
    }
    planned->plan = plan;
    planned->workspace_bytes = plan->scratch + plan->workspace;
    planned->in_place_count = plan->in_place_count;
    memcpy(planned->in_place, plan->in_place, sizeof plan->in_place);
    return PERCEPT_OK;
}

/* ---- Launching -------------------------------------------------------------------------------------------------- */

static percept_status failed(const percept_queue *queue, aclnnStatus status, const char *what, const char *when,
                             const char *path, percept_message *message) {
    char words[256];
    ascend_words(queue->device, words, sizeof words);
    return percept_fail(message, PERCEPT_FAILED, "%s: %s gives error %d%s%s%s", what, when, (int)status,
                        path && path[0] ? " in " : "", path ? path : "", words);
}

/* The variant whose overwritten operands lie where this launch has them. */
static variant *matching(planned_call *c, void *const *addresses) {
    for (variant **at = &c->variants; *at; at = &(*at)->next) {
        variant *v = *at;
        bool fits = true;
        for (int i = 0; fits && i < c->count; i++)
            fits =
                c->arguments[i].kind != ARG_REF || v->bounds[i].address == addresses[i] || !is_tensor(&c->arguments[i]);
        if (!fits) continue;
        *at = v->next;
        v->next = c->variants;
        c->variants = v;
        return v;
    }
    return NULL;
}

/* Move a variant's tensors; an index counts all tensors of the signature, those left out too. */
static bool move_tensors(const functions *f, const planned_call *c, variant *v, void *const *addresses) {
    size_t index = 0;
    for (int i = 0; i < c->count; i++) {
        const argument *a = &c->arguments[i];
        bound *b = &v->bounds[i];
        if (a->kind > ARG_LIST) continue;
        if (is_tensor(a) && b->address != addresses[i]) {
            aclnnStatus status = b->list ? f->aclSetDynamicTensorAddr(v->executor, index, 0, b->list, addresses[i])
                                         : f->aclSetTensorAddr(v->executor, index, b->tensor, addresses[i]);
            if (status != 0) return false;
            b->address = addresses[i];
        }
        index++;
    }
    return true;
}

static void drop_last_variant(percept_queue *queue, planned_call *c) {
    variant **at = &c->variants;
    while ((*at)->next)
        at = &(*at)->next;
    (void)queue->device->f->aclrtSynchronizeStream(queue->stream);
    free_variant(queue->device->f, *at, c->count);
    *at = NULL;
    c->variant_count--;
}

static percept_status run_call(percept_queue *queue, planned_call *c, void *const *addresses, void *workspace,
                               const char *path, percept_message *message) {
    const functions *f = queue->device->f;
    const char *name = f->ops[c->op].name;
    variant *v = matching(c, addresses);
    if (v && !move_tensors(f, c, v, addresses)) {
        /* The library cannot move this one: phase one tells the addresses from now on. */
        c->variants = v->next;
        c->variant_count--;
        free_variant(f, v, c->count);
        v = NULL;
    }
    aclnnStatus status = 0;
    bool once = false;
    if (!v) {
        v = new_variant(f, c, addresses, &status);
        if (!v) return failed(queue, status, name, "phase one", path, message);
        if (v->workspace > c->workspace) {
            unsigned long long asked = v->workspace, planned = c->workspace;
            free_variant(f, v, c->count);
            return percept_fail(message, PERCEPT_FAILED,
                                "%s asks for a workspace of %llu bytes, and asked for %llu before", name, asked,
                                planned);
        }
        once = !v->repeatable;
        if (!once) {
            if (c->variant_count == MOST_VARIANTS && !queue->capturing) drop_last_variant(queue, c);
            v->next = c->variants;
            c->variants = v;
            c->variant_count++;
        }
    }
    status = f->ops[c->op].phase_two(v->workspace ? workspace : NULL, v->workspace, v->executor, queue->stream);
    if (once) {
        v->executor = NULL; /* phase two took it */
        free_variant(f, v, c->count);
    }
    return status == 0 ? PERCEPT_OK : failed(queue, status, name, "phase two", path, message);
}

static percept_status run_plan(percept_queue *queue, const percept_launch *launch, percept_message *message) {
    percept_plan *plan = launch->plan;
    for (uint64_t i = 0; i < launch->output_count; i++)
        if (launch->outputs[i].memory->weights) {
            if (queue->capturing) return percept_fail(message, PERCEPT_FAILED, "a weight is overwritten in a capture");
            percept_status status = ascend_devices.queue_wait(queue, message);
            if (status != PERCEPT_OK) return status;
            ascend_forget_weights(launch->outputs[i].memory, false);
        }
    void *weights[2] = {NULL, NULL};
    for (int i = 0; i < plan->wanted_count && plan->call_count > 0; i++) {
        const wanted_weight *w = &plan->wanted[i];
        percept_status status = ascend_find_weight(queue, w, &launch->inputs[w->index], &weights[i], message);
        if (status != PERCEPT_OK) return status;
    }
    uint8_t *scratch_base = launch->workspace.memory ? launch->workspace.memory->base + launch->workspace.offset : NULL;
    for (int n = 0; n < plan->call_count; n++) {
        planned_call *c = &plan->calls[n];
        void *addresses[MAX_ARGUMENTS] = {0};
        for (int i = 0; i < c->count; i++) {
            if (!is_tensor(&c->arguments[i])) continue;
            const view *v = &c->arguments[i].tensor;
            uint8_t *base = scratch_base;
            if (v->place == AT_INPUT) base = launch->inputs[v->index].memory->base + launch->inputs[v->index].offset;
            if (v->place == AT_OUTPUT) base = launch->outputs[v->index].memory->base + launch->outputs[v->index].offset;
            if (v->place == AT_WEIGHT) base = plan->wanted[0].index == v->index ? weights[0] : weights[1];
            addresses[i] = base + v->offset;
        }
        if (c->is_copy && addresses[0] == addresses[1]) continue;
        void *workspace = scratch_base ? scratch_base + plan->scratch : NULL;
        percept_status status = run_call(queue, c, addresses, workspace, launch->path, message);
        if (status != PERCEPT_OK) return status;
    }
    return PERCEPT_OK;
}

static percept_status launch(percept_queue *queue, const percept_launch *launch, percept_message *message) {
    if (!ascend_enter(queue->device, message)) return PERCEPT_FAILED;
    return run_plan(queue, launch, message);
}

static percept_status launch_program(percept_queue *queue, const percept_launch *const *launches, uint64_t count,
                                     uint64_t *failed_at, percept_message *message) {
    if (!ascend_enter(queue->device, message)) return PERCEPT_FAILED;
    for (uint64_t i = 0; i < count; i++) {
        percept_status status = run_plan(queue, launches[i], message);
        if (status != PERCEPT_OK) {
            *failed_at = i;
            return status;
        }
    }
    return PERCEPT_OK;
}

const percept_oplib ascend_oplib = {
    .struct_size = sizeof(percept_oplib),
    .query = query,
    .plan_free = plan_free,
    .launch = launch,
    .launch_program = launch_program,
    .capture_begin = ascend_capture_begin,
    .capture_end = ascend_capture_end,
    .capture_replay = ascend_capture_replay,
    .capture_free = ascend_capture_free,
};
