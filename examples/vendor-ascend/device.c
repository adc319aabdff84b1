/* Devices, memory, streams and captured programs. */
#include <stdlib.h>

#include "plugin.h"

void ascend_words(const percept_device *device, char *text, size_t room) {
    const char *words = device->f->aclGetRecentErrMsg();
    int length = words ? (int)strcspn(words, "\n") : 0;
    (void)snprintf(text, room, "%s%.*s", length ? ": " : "", length, words ? words : "");
}

bool ascend_ok(const percept_device *device, aclError status, const char *call, percept_message *message) {
    if (status == 0) return true;
    char words[256];
    ascend_words(device, words, sizeof words);
    percept_fail(message, PERCEPT_FAILED, "%s gives error %d%s", call, (int)status, words);
    return false;
}

/* The status that goes with the message of ascend_ok. */
static percept_status status_of(aclError status) {
    return status == ASCEND_OUT_OF_MEMORY ? PERCEPT_OUT_OF_MEMORY : PERCEPT_FAILED;
}

#define TRY(device, call, message)                                                                                     \
    do {                                                                                                               \
        aclError tried = (device)->f->call;                                                                            \
        if (!ascend_ok(device, tried, #call, message)) return status_of(tried);                                        \
    } while (0)

bool ascend_enter(const percept_device *device, percept_message *message) {
    return ascend_ok(device, device->f->aclrtSetCurrentContext(device->context), "aclrtSetCurrentContext", message);
}

/* Whether the library multiplies this dtype on this chip: it is asked, because no table of chips stays true. */
static bool multiplies(const percept_device *device, int type) {
    const functions *f = device->f;
    if (!f->ops[ASCEND_Mul].phase_one) return false;
    const int64_t dims[1] = {16}, strides[1] = {1};
    bound a[3] = {{0}};
    for (int i = 0; i < 3; i++)
        a[i].tensor = f->aclCreateTensor(dims, 1, (aclDataType)type, strides, 0, (aclFormat)ASCEND_FORMAT_ND, dims, 1,
                                         device->dummy);
    uint64_t workspace = 0;
    aclOpExecutor *executor = NULL;
    bool can = ascend_phase_one(f, ASCEND_Mul, a, &workspace, &executor) == 0;
    if (can && executor) (void)f->aclDestroyAclOpExecutor(executor);
    for (int i = 0; i < 3; i++)
        if (a[i].tensor) (void)f->aclDestroyTensor(a[i].tensor);
    return can;
}

static percept_status set_up(percept_device *device, percept_message *message) {
    TRY(device, aclrtSetDevice(device->number), message);
    TRY(device, aclrtCreateContext(&device->context, device->number), message);
    TRY(device, aclrtMalloc(&device->dummy, 512, (aclrtMemMallocPolicy)ASCEND_MALLOC_HUGE_FIRST), message);
    static const struct {
        uint32_t percept;
        int ascend;
    } asked[] = {{PERCEPT_F32, ASCEND_FLOAT}, {PERCEPT_F16, ASCEND_FLOAT16}, {PERCEPT_BF16, ASCEND_BF16}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        if (multiplies(device, asked[i].ascend)) device->dtypes |= 1ull << asked[i].percept;
    /* Whole numbers and blocks are only moved where nothing computes on them, so every chip has them. */
    size_t available = 0, total = 0;
    TRY(device, aclrtGetMemInfo((aclrtMemAttr)ASCEND_HBM_MEM, &available, &total), message);
    device->memory_bytes = total ? total : 1ull << 32;
    device->dtypes |= 1ull << PERCEPT_I32 | 1ull << PERCEPT_U32 | 1ull << PERCEPT_U8 | 1ull << PERCEPT_BOOL;
    for (uint32_t type = PERCEPT_Q8_0; type <= PERCEPT_Q8_X; type++)
        device->dtypes |= 1ull << type;
    return PERCEPT_OK;
}

static void device_close(percept_device *device) {
    percept_message none = {sizeof none, NULL, 0};
    if (device->context && ascend_enter(device, &none)) {
        if (device->dummy) (void)device->f->aclrtFree(device->dummy);
        (void)device->f->aclrtDestroyContext(device->context);
    }
    free(device);
}

static percept_status read_options(const percept_option *options, uint64_t count, percept_device *device,
                                   const char **directory, percept_message *message) {
    for (uint64_t i = 0; i < count; i++) {
        const char *key = options[i].key, *value = options[i].value;
        if (strcmp(key, "libraries") == 0) {
            *directory = value;
        } else if (strcmp(key, "minima") == 0) {
            device->offset_minima = strcmp(value, "offset") == 0;
            if (!device->offset_minima && strcmp(value, "exact") != 0)
                return percept_fail(message, PERCEPT_INVALID, "minima is 'exact' or 'offset', not '%s'", value);
        } else {
            char *end;
            long number = strtol(value, &end, 10);
            bool cube = strcmp(key, "cube") == 0;
            if (!value[0] || *end || number < 0 || number > (cube ? 3 : 1023))
                return percept_fail(message, PERCEPT_INVALID, "%s is a number from 0 to %d, not '%s'", key,
                                    cube ? 3 : 1023, value);
            if (cube)
                device->cube = (int8_t)number;
            else
                device->number = (int32_t)number;
        }
    }
    return PERCEPT_OK;
}

static percept_status device_open(const percept_option *options, uint64_t option_count, percept_device **device,
                                  percept_message *message) {
    percept_device *opened = calloc(1, sizeof *opened);
    if (!opened) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a device");
    const char *directory = "";
    percept_status status = read_options(options, option_count, opened, &directory, message);
    if (status == PERCEPT_OK) {
        opened->f = ascend_functions(directory, message);
        status = opened->f ? set_up(opened, message) : PERCEPT_FAILED;
    }
    if (status != PERCEPT_OK) {
        if (opened->f)
            device_close(opened);
        else
            free(opened);
        return status;
    }
    *device = opened;
    return PERCEPT_OK;
}

static percept_status device_info(percept_device *device, percept_device_info *info, percept_message *message) {
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    const char *name = device->f->aclrtGetSocName();
    int32_t major = 0, minor = 0, patch = 0;
    TRY(device, aclrtGetVersion(&major, &minor, &patch), message);
    (void)snprintf(info->name, sizeof info->name, "%s:%d", name ? name : "Ascend", (int)device->number);
    (void)snprintf(info->vendor, sizeof info->vendor, "Huawei");
    (void)snprintf(info->driver, sizeof info->driver, "AscendCL %d.%d.%d", (int)major, (int)minor, (int)patch);
    (void)snprintf(info->features, sizeof info->features, "capture%s",
                   device->cube ? " reduced-precision-products" : "");
    info->dtypes = device->dtypes;
    info->memory_bytes = info->max_buffer_bytes = device->memory_bytes;
    return PERCEPT_OK;
}

static percept_status memory_new(percept_device *device, uint64_t bytes, percept_memory **memory,
                                 percept_message *message) {
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    percept_memory *made = calloc(1, sizeof *made);
    if (!made) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a block's handle");
    void *base = NULL;
    aclError status = device->f->aclrtMalloc(&base, (size_t)bytes, (aclrtMemMallocPolicy)ASCEND_MALLOC_HUGE_FIRST);
    if (!ascend_ok(device, status, "aclrtMalloc", message)) {
        free(made);
        return status_of(status);
    }
    *made = (percept_memory){device, base, bytes, NULL};
    *memory = made;
    return PERCEPT_OK;
}

static void memory_free(percept_device *device, percept_memory *memory) {
    percept_message none = {sizeof none, NULL, 0};
    if (ascend_enter(device, &none)) {
        ascend_forget_weights(memory, true);
        (void)device->f->aclrtFree(memory->base);
    }
    free(memory);
}

static percept_status queue_new(percept_device *device, percept_queue **queue, percept_message *message) {
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    aclrtStream stream = NULL;
    TRY(device, aclrtCreateStream(&stream), message);
    percept_queue *made = calloc(1, sizeof *made);
    if (!made) {
        (void)device->f->aclrtDestroyStream(stream);
        return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a queue");
    }
    *made = (percept_queue){.device = device, .stream = stream};
    *queue = made;
    return PERCEPT_OK;
}

static void queue_free(percept_device *device, percept_queue *queue) {
    percept_message none = {sizeof none, NULL, 0};
    if (ascend_enter(device, &none)) (void)device->f->aclrtDestroyStream(queue->stream);
    free(queue);
}

static percept_status queue_wait(percept_queue *queue, percept_message *message) {
    if (!ascend_enter(queue->device, message)) return PERCEPT_FAILED;
    TRY(queue->device, aclrtSynchronizeStream(queue->stream), message);
    return PERCEPT_OK;
}

/* Waits for the copy: the host's memory is not pinned, and may be used again when the call returns. */
static percept_status queue_write(percept_queue *queue, const percept_span *to, const void *bytes,
                                  percept_message *message) {
    percept_device *device = queue->device;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    TRY(device, aclrtSynchronizeStream(queue->stream), message);
    if (to->bytes == 0) return PERCEPT_OK;
    ascend_forget_weights(to->memory, false);
    TRY(device,
        aclrtMemcpy(to->memory->base + to->offset, (size_t)to->bytes, bytes, (size_t)to->bytes,
                    (aclrtMemcpyKind)ASCEND_HOST_TO_DEVICE),
        message);
    return PERCEPT_OK;
}

static percept_status queue_read(percept_queue *queue, const percept_span *from, void *bytes,
                                 percept_message *message) {
    percept_device *device = queue->device;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    TRY(device, aclrtSynchronizeStream(queue->stream), message);
    if (from->bytes == 0) return PERCEPT_OK;
    TRY(device,
        aclrtMemcpy(bytes, (size_t)from->bytes, from->memory->base + from->offset, (size_t)from->bytes,
                    (aclrtMemcpyKind)ASCEND_DEVICE_TO_HOST),
        message);
    return PERCEPT_OK;
}

static percept_status queue_copy(percept_queue *queue, const percept_span *from, const percept_span *to,
                                 percept_message *message) {
    percept_device *device = queue->device;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    if (from->bytes == 0) return PERCEPT_OK;
    if (to->memory->weights) {
        /* What runs may still read them. */
        TRY(device, aclrtSynchronizeStream(queue->stream), message);
        ascend_forget_weights(to->memory, false);
    }
    TRY(device,
        aclrtMemcpyAsync(to->memory->base + to->offset, (size_t)to->bytes, from->memory->base + from->offset,
                         (size_t)from->bytes, (aclrtMemcpyKind)ASCEND_DEVICE_TO_DEVICE, queue->stream),
        message);
    return PERCEPT_OK;
}

const percept_devices ascend_devices = {
    .struct_size = sizeof(percept_devices),
    .device_open = device_open,
    .device_close = device_close,
    .device_info = device_info,
    .memory_new = memory_new,
    .memory_free = memory_free,
    .queue_new = queue_new,
    .queue_free = queue_free,
    .queue_write = queue_write,
    .queue_read = queue_read,
    .queue_wait = queue_wait,
    .queue_copy = queue_copy,
};
