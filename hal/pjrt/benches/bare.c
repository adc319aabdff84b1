/*
 * A module of one step run over and over through a PJRT plug-in, its states given up for their successors: the least that a program
 * can do. usage: bare LIBRARY FOLDER RUNS, where FOLDER has module.mlir and arguments.txt. It prints the median time of a run, with
 * the reading of the results that replace nothing, in microseconds.
 */
#include <dlfcn.h>
#include <stdbool.h>

#include "bare.h"

/* Places in the table of functions, and the structures that they take, as of version 0.81 of the C API. */
enum {
    ERROR_MESSAGE = 1, PLUGIN_INITIALIZE = 3, EVENT_DESTROY = 5, EVENT_AWAIT = 8, CLIENT_CREATE = 10, CLIENT_DEVICES = 16,
    CLIENT_COMPILE = 20, BUFFER_FROM_HOST = 22, EXECUTE = 55, BUFFER_DESTROY = 58, BUFFER_TO_HOST = 70
};
enum { DURING_CALL = 0 };
#define HEAD size_t size; void *extensions

struct table { HEAD; struct { HEAD; int major, minor; } version; void *(*functions[])(void *); };
struct message { HEAD; void *error; const char *text; size_t length; };
struct empty { HEAD; };
struct one { HEAD; void *object; }; /* a handle alone: an event or a buffer */
struct client_create { HEAD; void *options; size_t count; void *callbacks[4]; void *client; void *more[2]; };
struct client_devices { HEAD; void *client; void *const *devices; size_t count; };
struct program { HEAD; const char *code; size_t code_size; const char *format; size_t format_size; };
struct compile { HEAD; void *client; struct program *program; const char *options; size_t options_size; void *executable; };
struct from_host {
    HEAD; void *client; const void *data; int element; const int64_t *dims; size_t rank; const int64_t *strides; size_t stride_count;
    int semantics; void *device, *memory, *layout, *done, *buffer;
};
struct execute_options {
    HEAD; void *send, *receive; size_t send_count, receive_count; int launch; const int64_t *kept; size_t kept_count; void *context;
    const char *location; size_t tasks; int *task_ids; int64_t *incarnations;
};
struct execute {
    HEAD; void *executable; struct execute_options *options; void *const *const *arguments; size_t devices, count; void **const *outputs;
    void **complete; void *device;
};
struct to_host { HEAD; void *buffer, *layout; void *data; size_t bytes; void *event; };

/* One replica on device 0, without excess precision: XLA's CompileOptionsProto. */
static const char OPTIONS[] =
    "\x1a\x1a" "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" "\x20\x01\x28\x01" "\x4a\x09" "\x08\x01\x10\x01\x1a\x03\x0a\x01\x00"
    "\x3a\x20" "\x0a\x1a" "xla_allow_excess_precision" "\x12\x02\x10\x00";

static const struct table *api;

static void call(int slot, void *structure) {
    void *error = api->functions[slot](structure);
    if (!error) return;
    struct message message = {sizeof message, NULL, error, NULL, 0};
    api->functions[ERROR_MESSAGE](&message);
    stop("PJRT", message.text);
}

static void with_handle(int slot, void *object) {
    struct one one = {sizeof one, NULL, object};
    if (object) call(slot, &one);
}

static void wait_for(void *event) {
    with_handle(EVENT_AWAIT, event);
    with_handle(EVENT_DESTROY, event);
}

static char *whole(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) stop(path, "it cannot be read");
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    if (!text || fread(text, 1, *size, file) != *size) stop(path, "it cannot be read");
    fclose(file);
    return text;
}

int main(int count, char **words) {
    char path[4096];
    if (count != 4) stop(words[0], "usage: bare LIBRARY FOLDER RUNS");
    void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) stop(words[1], dlerror());
    const struct table *(*entry)(void) = (const struct table *(*)(void))dlsym(library, "GetPjrtApi");
    if (!entry) stop(words[1], "it has no GetPjrtApi");
    api = entry();
    struct empty empty = {sizeof empty, NULL};
    call(PLUGIN_INITIALIZE, &empty);
    struct client_create create = {.size = sizeof create};
    call(CLIENT_CREATE, &create);
    struct client_devices devices = {.size = sizeof devices, .client = create.client};
    call(CLIENT_DEVICES, &devices);
    snprintf(path, sizeof path, "%s/arguments.txt", words[2]);
    read_arguments(path);
    struct program program = {.size = sizeof program, .format = "mlir", .format_size = 4};
    snprintf(path, sizeof path, "%s/module.mlir", words[2]);
    program.code = whole(path, &program.code_size);
    struct compile compile = {.size = sizeof compile, .client = create.client, .program = &program, .options = OPTIONS, .options_size = sizeof OPTIONS - 1};
    call(CLIENT_COMPILE, &compile);
    void *inputs[MOST], *outputs[MOST] = {0}, *results[MOST] = {0};
    int input_of[MOST];
    size_t input_count = 0, output_count = 0, result_bytes[MOST];
    for (size_t i = 0; i < MOST; i++) input_of[i] = -1;
    for (size_t i = 0; i < argument_count; i++) {
        const struct argument *a = &arguments[i];
        if (strcmp(a->kind, "in")) {
            result_bytes[output_count] = a->bytes;
            results[output_count++] = malloc(a->bytes);
            continue;
        }
        void *data = values(a);
        struct from_host copy = {.size = sizeof copy, .client = create.client, .data = data, .element = a->element, .dims = a->dims,
                                 .rank = a->rank, .semantics = DURING_CALL, .device = devices.devices[0]};
        call(BUFFER_FROM_HOST, &copy);
        wait_for(copy.done);
        free(data);
        if (a->replaced >= 0) input_of[a->replaced] = (int)input_count;
        inputs[input_count++] = copy.buffer;
    }
    size_t runs = (size_t)atoi(words[3]);
    double *times = malloc(runs * sizeof *times);
    for (size_t run = 0; run < runs; run++) {
        double begin = now();
        struct execute_options options = {.size = sizeof options};
        void *const *lists = inputs, **made = outputs, *complete = NULL;
        struct execute execute = {.size = sizeof execute, .executable = compile.executable, .options = &options, .arguments = &lists,
                                  .devices = 1, .count = input_count, .outputs = &made, .complete = &complete};
        call(EXECUTE, &execute);
        for (size_t i = 0; i < output_count; i++) {
            if (input_of[i] >= 0) {
                with_handle(BUFFER_DESTROY, inputs[input_of[i]]);
                inputs[input_of[i]] = outputs[i];
                continue;
            }
            struct to_host read = {.size = sizeof read, .buffer = outputs[i], .data = results[i], .bytes = result_bytes[i]};
            call(BUFFER_TO_HOST, &read);
            wait_for(read.event);
            with_handle(BUFFER_DESTROY, outputs[i]);
        }
        wait_for(complete);
        times[run] = now() - begin;
    }
    print_median(times, runs);
    return 0;
}
