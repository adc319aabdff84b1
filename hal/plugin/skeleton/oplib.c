/* ---- The operations ------------------------------------------------------------------------------------------- */

/* HERE: what the chip's library wants to know at a launch: descriptors, an algorithm, an executor. */
struct percept_plan_s {
    void (*function)(float *to, const float *a, const float *b, size_t n);
    size_t elements;
};

static void add(float *to, const float *a, const float *b, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) to[i] = a[i] + b[i];
}

static void multiply(float *to, const float *a, const float *b, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) to[i] = a[i] * b[i];
}

static percept_status query(percept_device *device, const percept_op *op, percept_planned *planned,
                            percept_message *message) {
    struct percept_plan_s plan = {NULL, 0};
    (void)device;
    /* HERE: one operation after the other. `percept device test` names the one to write next. */
    if (percept_is(op, "add")) plan.function = add;
    if (percept_is(op, "mul")) plan.function = multiply;
    if (!plan.function) return percept_fail(message, PERCEPT_UNSUPPORTED, "%s is not written yet", op->name);
    if (op->inputs[0].dtype != PERCEPT_F32)
        return percept_fail(message, PERCEPT_UNSUPPORTED, "%s is there for f32 only", op->name);
    plan.elements = (size_t)percept_elements(&op->outputs[0]);
    planned->plan = (percept_plan *)malloc(sizeof plan);
    if (!planned->plan) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for a plan");
    *planned->plan = plan;
    planned->workspace_bytes = 0;
    /* Each element is read before it is written, so the result may lie where an operand was. */
    planned->in_place_count = 2;
    planned->in_place[1][0] = 1;
    return PERCEPT_OK;
}

static void plan_free(percept_device *device, percept_plan *plan) {
    (void)device;
    free(plan);
}

static percept_status launch(percept_queue *queue, const percept_launch *launch, percept_message *message) {
    (void)queue, (void)message;
    launch->plan->function((float *)(void *)at(&launch->outputs[0]), (const float *)(const void *)at(&launch->inputs[0]),
                           (const float *)(const void *)at(&launch->inputs[1]), launch->plan->elements);
    return PERCEPT_OK;
}

static const percept_oplib oplib = {
    sizeof(percept_oplib), query, plan_free, launch,
    /* launch_program, captures, pack */ NULL, NULL, NULL, NULL, NULL, NULL};

