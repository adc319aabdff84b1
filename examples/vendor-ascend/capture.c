/* Programs that are recorded by aclmdlRI and replayed. */
#include <stdlib.h>

#include "plugin.h"

percept_status ascend_capture_begin(percept_queue *queue, percept_message *message) {
    const percept_device *device = queue->device;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    aclError e = device->f->aclmdlRICaptureBegin(queue->stream, (aclmdlRICaptureMode)ASCEND_CAPTURE_THREAD_LOCAL);
    if (!ascend_ok(device, e, "aclmdlRICaptureBegin", message)) return PERCEPT_FAILED;
    queue->capturing = true;
    return PERCEPT_OK;
}

static void release_all(const percept_device *device, repacked **held, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        ascend_release_weight(device, held[i]);
    free(held);
}

percept_status ascend_capture_end(percept_queue *queue, percept_capture **capture, percept_message *message) {
    const percept_device *device = queue->device;
    percept_capture made = {NULL, queue->held, queue->held_count};
    queue->capturing = false;
    queue->held = NULL;
    queue->held_count = 0;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    aclError e = device->f->aclmdlRICaptureEnd(queue->stream, &made.graph);
    if (!ascend_ok(device, e, "aclmdlRICaptureEnd", message)) {
        release_all(device, made.held, made.held_count);
        return PERCEPT_FAILED;
    }
    *capture = malloc(sizeof made);
    if (!*capture) {
        (void)device->f->aclmdlRIDestroy(made.graph);
        release_all(device, made.held, made.held_count);
        return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory on the host for a capture");
    }
    **capture = made;
    return PERCEPT_OK;
}

percept_status ascend_capture_replay(percept_queue *queue, percept_capture *capture, percept_message *message) {
    const percept_device *device = queue->device;
    if (!ascend_enter(device, message)) return PERCEPT_FAILED;
    for (uint64_t i = 0; i < capture->held_count; i++) {
        percept_status status = ascend_refresh_weight(queue, capture->held[i], message);
        if (status != PERCEPT_OK) return status;
    }
    aclError e = device->f->aclmdlRIExecuteAsync(capture->graph, queue->stream);
    return ascend_ok(device, e, "aclmdlRIExecuteAsync", message) ? PERCEPT_OK : PERCEPT_FAILED;
}

void ascend_capture_free(percept_device *device, percept_capture *capture) {
    percept_message none = {sizeof none, NULL, 0};
    if (ascend_enter(device, &none)) {
        (void)device->f->aclmdlRIDestroy(capture->graph);
        release_all(device, capture->held, capture->held_count);
    }
    free(capture);
}
