/* ---- The kernels ---------------------------------------------------------------------------------------------- */

struct percept_kernel_s {
    uint32_t workgroup_size[3]; /* HERE: the chip's handle of a compiled kernel */
};

static percept_status limits(percept_device *device, percept_kernel_limits *limits, percept_message *message) {
    (void)device, (void)message;
    limits->language = PERCEPT_WGSL; /* HERE: the language that the chip's compiler takes */
    return PERCEPT_OK;
}

static percept_status kernel_new(percept_device *device, const percept_module *module, percept_kernel **kernel,
                                 percept_message *message) {
    (void)device, (void)kernel;
    /* HERE: hand module->source to the chip's compiler. What it does not take goes another way. */
    return percept_fail(message, PERCEPT_UNSUPPORTED, "%s: there is no compiler here yet", module->key);
}

static void kernel_free(percept_device *device, percept_kernel *kernel) {
    (void)device;
    free(kernel);
}

static percept_status dispatch(percept_queue *queue, const percept_dispatch *const *dispatches, uint64_t count,
                               uint64_t *failed, percept_message *message) {
    (void)queue, (void)count;
    /* HERE: bind the buffers and parameters of each dispatch and start its kernel. */
    *failed = 0;
    return percept_fail(message, PERCEPT_FAILED, "%s: no kernel was compiled", dispatches[0]->path);
}

static const percept_kernels kernels = {sizeof(percept_kernels), limits, kernel_new, kernel_free, dispatch};

