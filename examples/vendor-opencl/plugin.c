/*
 * A plug-in for any device with OpenCL 1.2: a real port, written against percept_plugin.h alone.
 *
 * It has the operations that a decoder spends its time on. What it does not have, the host takes apart or runs itself,
 * and says so. Every operation is one OpenCL kernel: `query` writes its source for the dtypes at hand, compiles it once,
 * and sets what does not change; `launch` sets the buffers and puts it into the queue.
 *
 *   make && percept device test plugin:./opencl.so
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdlib.h>

#include "percept_plugin.h"

enum { GROUP = 64, TENSORS = 12, TABLES = 6, TEXT = 32768, DIMS = 8 };

typedef percept_status status;

struct program {
    struct program *next;
    char *source;
    cl_program program;
};

struct percept_device_s {
    cl_device_id id;
    cl_context context;
    struct program *programs; /* by their source, so that shapes share them */
};

struct percept_queue_s { cl_command_queue queue; };
struct percept_memory_s { cl_mem buffer; };

struct percept_plan_s {
    cl_kernel kernel;
    cl_uint tensors;          /* the first arguments: a buffer and an offset for each operand and result */
    uint64_t widths[TENSORS]; /* bytes that an offset counts in */
    size_t global[2];         /* a multiple of the group in the last dimension; 0: there is nothing to do */
    cl_mem tables[TABLES];    /* offsets that kernels look up */
    int copies;               /* the result begins as the first operand */
};

/* ---- The device ----------------------------------------------------------------------------------------------- */

/* What a call of OpenCL gave, as a status. */
static status result(percept_message *message, const char *what, cl_int code) {
    if (code == CL_SUCCESS) return PERCEPT_OK;
    if (code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY)
        return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "%s gives OpenCL error %d", what, (int)code);
    return percept_fail(message, PERCEPT_FAILED, "%s gives OpenCL error %d", what, (int)code);
}

/* The device with this number among those of all platforms. */
static cl_int device_at(long index, cl_device_id *id) {
    cl_platform_id platforms[16];
    cl_uint platform_count = 0, p;
    cl_int code = clGetPlatformIDs(16, platforms, &platform_count);
    for (p = 0; code == CL_SUCCESS && p < platform_count && p < 16; p++) {
        cl_device_id devices[16];
        cl_uint count = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 16, devices, &count) != CL_SUCCESS) continue;
        if (count > 16) count = 16;
        if (index < (long)count) {
            *id = devices[index];
            return CL_SUCCESS;
        }
        index -= (long)count;
    }
    return code == CL_SUCCESS ? CL_DEVICE_NOT_FOUND : code;
}

static status device_open(const percept_option *options, uint64_t count, percept_device **device,
                                  percept_message *message) {
    percept_device *made = (percept_device *)calloc(1, sizeof *made);
    const char *text = count > 0 ? options[0].value : "0";
    char *end;
    long index = strtol(text, &end, 10);
    cl_int code = CL_SUCCESS;
    if (!made) return percept_fail(message, PERCEPT_OUT_OF_MEMORY, "no memory for a device");
    if (*end || end == text || index < 0 || device_at(index, &made->id) != CL_SUCCESS) {
        free(made);
        return percept_fail(message, PERCEPT_INVALID, "there is no OpenCL device %s; clinfo -l lists them", text);
    }
    made->context = clCreateContext(NULL, 1, &made->id, NULL, NULL, &code);
    if (code == CL_SUCCESS) *device = made;
    else free(made);
    return result(message, "clCreateContext", code);
}

static void device_close(percept_device *device) {
    while (device->programs) {
        struct program *next = device->programs->next;
        clReleaseProgram(device->programs->program);
        free(device->programs->source);
        free(device->programs);
        device->programs = next;
    }
    clReleaseContext(device->context);
    free(device);
}

static status device_info(percept_device *device, percept_device_info *info, percept_message *message) {
    cl_device_type type = 0;
    cl_ulong largest = 0, all = 0;
    const struct {
        cl_device_info what;
        size_t bytes;
        void *to;
    } asked[] = {{CL_DEVICE_NAME, sizeof info->name, info->name}, {CL_DEVICE_VENDOR, sizeof info->vendor, info->vendor},
        {CL_DRIVER_VERSION, sizeof info->driver, info->driver}, {CL_DEVICE_TYPE, sizeof type, &type},
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof largest, &largest}, {CL_DEVICE_GLOBAL_MEM_SIZE, sizeof all, &all}};
    size_t i;
    for (i = 0; i < sizeof asked / sizeof *asked; i++) {
        cl_int code = clGetDeviceInfo(device->id, asked[i].what, asked[i].bytes, asked[i].to, NULL);
        if (code != CL_SUCCESS) return result(message, "clGetDeviceInfo", code);
    }
    info->dtypes = 1u << PERCEPT_F32 | 1u << PERCEPT_F16 | 1u << PERCEPT_BF16 | 1u << PERCEPT_I32 | 1u << PERCEPT_U32 |
                   1u << PERCEPT_U8 | 1u << PERCEPT_BOOL | 1u << PERCEPT_Q8_0 | 1u << PERCEPT_Q4_0 | 1u << PERCEPT_Q4_1;
    info->max_buffer_bytes = largest;
    info->memory_bytes = all;
    if (type & CL_DEVICE_TYPE_CPU) info->flags = PERCEPT_DEVICE_SOFTWARE;
    return PERCEPT_OK;
}

static status memory_new(percept_device *device, uint64_t bytes, percept_memory **memory, percept_message *message) {
    cl_int code = CL_OUT_OF_HOST_MEMORY;
    percept_memory *made = (percept_memory *)calloc(1, sizeof *made);
    if (made) made->buffer = clCreateBuffer(device->context, CL_MEM_READ_WRITE, (size_t)bytes, NULL, &code);
    if (code == CL_SUCCESS) *memory = made;
    else free(made);
    return result(message, "clCreateBuffer", code);
}

static void memory_free(percept_device *device, percept_memory *memory) {
    (void)device;
    clReleaseMemObject(memory->buffer);
    free(memory);
}

static status queue_new(percept_device *device, percept_queue **queue, percept_message *message) {
    cl_int code = CL_OUT_OF_HOST_MEMORY;
    percept_queue *made = (percept_queue *)calloc(1, sizeof *made);
    if (made) made->queue = clCreateCommandQueue(device->context, device->id, 0, &code);
    if (code == CL_SUCCESS) *queue = made;
    else free(made);
    return result(message, "clCreateCommandQueue", code);
}

static void queue_free(percept_device *device, percept_queue *queue) {
    (void)device;
    clReleaseCommandQueue(queue->queue);
    free(queue);
}

static status queue_write(percept_queue *queue, const percept_span *to, const void *bytes, percept_message *message) {
    cl_int code = clEnqueueWriteBuffer(queue->queue, to->memory->buffer, CL_TRUE, (size_t)to->offset,
                                       (size_t)to->bytes, bytes, 0, NULL, NULL);
    return result(message, "clEnqueueWriteBuffer", code);
}

static status queue_read(percept_queue *queue, const percept_span *from, void *bytes, percept_message *message) {
    cl_int code = clEnqueueReadBuffer(queue->queue, from->memory->buffer, CL_TRUE, (size_t)from->offset,
                                      (size_t)from->bytes, bytes, 0, NULL, NULL);
    return result(message, "clEnqueueReadBuffer", code);
}

static status queue_wait(percept_queue *queue, percept_message *message) {
    cl_int code = clFinish(queue->queue);
    return result(message, "clFinish", code);
}

static status queue_copy(percept_queue *queue, const percept_span *from, const percept_span *to,
                                 percept_message *message) {
    cl_int code = clEnqueueCopyBuffer(queue->queue, from->memory->buffer, to->memory->buffer, (size_t)from->offset,
                                      (size_t)to->offset, (size_t)from->bytes, 0, NULL, NULL);
    return result(message, "clEnqueueCopyBuffer", code);
}

static const percept_devices devices = {
    sizeof(percept_devices), device_open, device_close, device_info, memory_new, memory_free, queue_new, queue_free,
    queue_write, queue_read, queue_wait, queue_copy, NULL, NULL, NULL, NULL, NULL, NULL, NULL};

/* ---- Kernels -------------------------------------------------------------------------------------------------- */

/*
 * Written as OpenCL C. The host puts before it, for each tensor n, its type Tn, the macros LOADn(i) and STOREn(i, v),
 * which go through float, and TENSORS, the arguments `an` and `on`; BEGIN adds the offsets, EACH takes element i of n, CELL row r and column c.
 */
#define CL(...) #__VA_ARGS__ "\n"

static const char *const common = CL(
float round_f16(float x) { ushort u; vstore_half_rte(x, 0, (half *)&u); return vload_half(0, (half *)&u); }
ushort to_bf16(float x) {
    uint u = as_uint(x);
    return isnan(x) ? (ushort)(u >> 16 | 64) : (ushort)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
float from_bf16(ushort u) { return as_float((uint)u << 16); }
float fmax_nan(float a, float b) { return isnan(a) ? a : isnan(b) ? b : fmax(a, b); }
float fmin_nan(float a, float b) { return isnan(a) ? a : isnan(b) ? b : fmin(a, b); }
float logistic(float x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
float gelu_erf(float x) { return x * 0.5f * erfc(x * -0.70710678f); }
float one_tanh(float x) { return fabs(x) > 10 ? x < 0 ? 0 : 2 : 1 + tanh(x); }
float gelu_tanh(float x) { return x * 0.5f * one_tanh(0.7978845608f * (x + 0.044715f * x * x * x)); }
float silu(float x) { return x * logistic(x); }
float quick_gelu(float x) { return x * logistic(1.702f * x); }
float relu(float x) { return fmax_nan(x, 0.0f); }
float none(float x) { return x; });

/* A group has one row, and joins its elements in an order that depends on their number alone. */
static const char *const rows = CL(
float join(float v, __local float *s, int is_max) {
    uint l = get_local_id(0);
    s[l] = v;
    for (uint n = GROUP / 2; n > 0; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (l < n) s[l] = is_max ? fmax_nan(s[l], s[l + n]) : s[l] + s[l + n];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float r = s[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return r;
});

static const char *const softmax = CL(
__kernel void softmax(TENSORS, uint d) {
    BEGIN
    __local float s[GROUP];
    ulong at = get_group_id(0) * (ulong)d;
    uint l = get_local_id(0);
    float m = -INFINITY;
    float z = 0;
    for (uint i = l; i < d; i += GROUP) m = fmax_nan(m, LOAD0(at + i));
    m = join(m, s, 1);
    for (uint i = l; i < d; i += GROUP) z += exp(LOAD0(at + i) - m);
    z = join(z, s, 0);
    for (uint i = l; i < d; i += GROUP) STORE1(at + i, exp(LOAD0(at + i) - m) / z);
});

static const char *const rms_norm = CL(
__kernel void rms_norm(TENSORS, uint d, float eps, float unit) {
    BEGIN
    __local float s[GROUP];
    ulong at = get_group_id(0) * (ulong)d;
    uint l = get_local_id(0);
    float z = 0;
    for (uint i = l; i < d; i += GROUP) z += LOAD0(at + i) * LOAD0(at + i);
    float scale = 1 / sqrt(join(z, s, 0) / d + eps);
    for (uint i = l; i < d; i += GROUP) STORE2(at + i, LOAD0(at + i) * scale * (LOAD1(i) + unit));
});

static const char *const dot_general = CL(
__kernel void dot_general(TENSORS, uint m, uint n, uint k, __global const ulong *lb, __global const ulong *rb,
                          __global const ulong *lm, __global const ulong *rn, __global const ulong *lk,
                          __global const ulong *rk) {
    CELL
    ulong b = r / m;
    ulong x = lb[b] + lm[r % m];
    ulong y = rb[b] + rn[c];
    float z = 0;
    for (uint j = 0; j < k; j++) z += LOAD0(x + lk[j]) * LOAD1(y + rk[j]);
    STORE2(r * n + c, z);
});

static const char *const linear = CL(
__kernel void linear(TENSORS, uint n, uint k) {
    CELL
    float4 z = 0;
    ulong x = r * k;
    ulong w = c * k;
    uint j = 0;
    for (; j + 4 <= k; j += 4)
        z += (float4)(LOAD0(x + j), LOAD0(x + j + 1), LOAD0(x + j + 2), LOAD0(x + j + 3)) *
             (float4)(LOAD1(w + j), LOAD1(w + j + 1), LOAD1(w + j + 2), LOAD1(w + j + 3));
    float t = (z.x + z.z) + (z.y + z.w);
    for (; j < k; j++) t += LOAD0(x + j) * LOAD1(w + j);
    STORE(r * n + c, ACT(t BIAS));
});

static const char *const weight = CL(
float weight(__global const uchar *w, ulong i) {
    __global const uchar *block = w + i / 32 * BLOCK;
    uint j = i % 32;
    float d = vload_half(0, (__global const half *)block);
    return WEIGHT;
});

static const char *const quantized_dot = CL(
__kernel void quantized_dot(TENSORS, uint n, uint k) {
    CELL
    float z = 0;
    for (uint j = 0; j < k; j++) z += LOAD0(r * k + j) * weight(a1, c * k + j);
    STORE2(r * n + c, z);
});

static const char *const rope = CL(
__kernel void rope(TENSORS, ulong n, uint h, uint t, uint d, uint r) {
    EACH
    uint f = i % d;
    ulong row = i / d;
    float x = LOAD0(i);
    if (f < 2 * r) {
        uint p = PAIRED ? f / 2 : f % r;
        uint is_second = PAIRED ? f % 2 : f / r;
        ulong other = row * d + (PAIRED ? f ^ 1 : is_second ? f - r : f + r);
        ulong angle = (row / (t * h) * t + row % t) * r + p;
        float c = a1[angle];
        float s = a2[angle];
        float y = LOAD0(other);
        x = is_second ? x * c + y * s : x * c - y * s;
    }
    STORE3(i, x);
});

static const char *const kv_append = CL(
__kernel void kv_append(TENSORS, ulong n, uint h, uint s, uint t, uint d, uint pages) {
    EACH
    uint f = i % d;
    uint row = i / d % t;
    uint head = i / d / t % h;
    uint b = i / d / t / h;
    long at = (long)a2[b] + row;
    if (PAGED) {
        if (at < 0 || at >= (long)pages * s) return;
        long page = TABLE(b * pages + at / s);
        if (page < 0 || page >= POOL) return;
        RESULT[((page * h + head) * s + at % s) * d + f] = a1[i];
    } else {
        if (at >= 0 && at < s) RESULT[(((ulong)b * h + head) * s + at) * d + f] = a1[i];
    }
});

static const char *const attend = CL(
__kernel void attend(TENSORS, uint h, uint hk, uint t, uint s, uint d, uint e, uint pages) {
    BEGIN
    ulong i = get_global_id(0);
    if (i >= ROWS) return;
    uint q = i % t;
    uint head = i / t % h;
    uint b = i / t / h;
    int p = (int)q + OFFSET;
    int end = (int)s;
    end = min(end, KV_LEN);
    float acc[E];
    float m = -INFINITY;
    float z = 0;
    for (uint f = 0; f < e; f++) acc[f] = 0;
    for (int j = 0; j < end; j++) {
        bool same_block = BLOCKS;
        bool seen = SEGMENTS;
        if (CAUSAL) seen = seen && (j <= p || same_block);
        if (WINDOW) seen = seen && p - j < WINDOW && (CAUSAL || j - p < WINDOW);
        if (!seen) continue;
        ulong row = KEY_ROW;
        float x = 0;
        for (uint f = 0; f < d; f++) x += LOAD0(i * d + f) * LOAD1(row * d + f);
        x *= SCALE;
        if (CAP != 0) x = CAP * tanh(x / CAP);
        float top = fmax_nan(m, x);
        float old = m == top ? 1 : exp(m - top);
        float w = x == top ? 1 : exp(x - top);
        z = z * old + w;
        for (uint f = 0; f < e; f++) acc[f] = acc[f] * old + w * LOAD2(row * e + f);
        m = top;
    }
    for (uint f = 0; f < e; f++) STORE(i * e + f, z == 0 ? 0 : acc[f] / z);
    LSE[i] = z == 0 ? -INFINITY : m + log(z);
});

static const char *const move = CL(
__kernel void move(TENSORS, ulong n, ulong start, uint rank, __global const ulong *dims, __global const ulong *strides) {
    EACH
    ulong rest = i;
    ulong from = start;
    for (uint k = rank; k-- > 0; rest /= dims[k]) from += rest % dims[k] * strides[k];
    a1[i] = a0[from];
});

/* ---- Sources -------------------------------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t used;
    int full;
};

static void say(struct text *to, const char *format, ...) {
    va_list rest;
    int n;
    if (!to->at) return;
    va_start(rest, format);
    n = vsnprintf(to->at + to->used, TEXT - to->used, format, rest);
    va_end(rest);
    if (n < 0 || (size_t)n >= TEXT - to->used)
        to->full = 1;
    else
        to->used += (size_t)n;
}

static int is_float(uint32_t dtype) { return dtype == PERCEPT_F32 || dtype == PERCEPT_F16 || dtype == PERCEPT_BF16; }
static int is_dense(uint32_t dtype) { return dtype >= PERCEPT_F32 && dtype <= PERCEPT_BOOL; }

/* The type that a dtype has in memory; blocks are bytes. */
static const char *type_of(uint32_t dtype) {
    static const char *const names[] = {"uchar", "float", "ushort", "ushort", "int", "uint"};
    return dtype <= PERCEPT_U32 ? names[dtype] : names[0];
}

static uint64_t width_of(uint32_t dtype) {
    return dtype == PERCEPT_F16 || dtype == PERCEPT_BF16 ? 2 : dtype <= PERCEPT_U32 ? 4 : 1;
}

/* The macros of tensor n. */
static void say_tensor(struct text *to, unsigned n, uint32_t dtype) {
    say(to, "#define T%u %s\n", n, type_of(dtype));
    if (dtype == PERCEPT_F16)
        say(to, "#define LOAD%u(i) vload_half(i, (__global half *)a%u)\n#define STORE%u(i, v) vstore_half_rte(v, i, (__global half *)a%u)\n", n, n, n, n);
    else if (dtype == PERCEPT_BF16)
        say(to, "#define LOAD%u(i) from_bf16(a%u[i])\n#define STORE%u(i, v) (a%u[i] = to_bf16(v))\n", n, n, n, n);
    else
        say(to, "#define LOAD%u(i) a%u[i]\n#define STORE%u(i, v) (a%u[i] = (v))\n", n, n, n, n);
}

/* What comes before the kernel of an operation: macros of its operands and results, then of itself. */
static struct text begin(const percept_op *op) {
    struct text to = {(char *)malloc(TEXT), 0, 0};
    uint64_t i, inputs = op->input_count, all = inputs + op->output_count;
    if (!to.at || all > TENSORS) {
        free(to.at);
        to.at = NULL;
        return to;
    }
    say(&to, "#define GROUP %d\n", GROUP);
    for (i = 0; i < all; i++)
        say_tensor(&to, (unsigned)i, i < inputs ? op->inputs[i].dtype : op->outputs[i - inputs].dtype);
    say(&to, "#define TENSORS ");
    for (i = 0; i < all; i++) say(&to, "%s__global T%u *a%u, ulong o%u", i ? ", " : "", (unsigned)i, (unsigned)i, (unsigned)i);
    say(&to, "\n#define BEGIN ");
    for (i = 0; i < all; i++) say(&to, "a%u += o%u; ", (unsigned)i, (unsigned)i);
    say(&to, "\n#define EACH BEGIN ulong i = get_global_id(0); if (i >= n) return;\n");
    say(&to, "#define CELL BEGIN ulong c = get_global_id(0); ulong r = get_global_id(1); if (c >= n) return;\n");
    return to;
}

/* The compiled program of a source, which is taken over. */
static status program_of(percept_device *device, char *source, cl_program *program, percept_message *message) {
    const char *text = source;
    struct program *p;
    cl_int code;
    for (p = device->programs; p; p = p->next)
        if (strcmp(p->source, source) == 0) {
            free(source);
            *program = p->program;
            return PERCEPT_OK;
        }
    *program = clCreateProgramWithSource(device->context, 1, &text, NULL, &code);
    p = (struct program *)calloc(1, sizeof *p);
    if (!p) code = CL_OUT_OF_HOST_MEMORY;
    if (code == CL_SUCCESS) code = clBuildProgram(*program, 1, &device->id, "-cl-std=CL1.2 -w", NULL, NULL);
    if (code != CL_SUCCESS) {
        char log[512] = "";
        if (*program) {
            (void)clGetProgramBuildInfo(*program, device->id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
            clReleaseProgram(*program);
        }
        free(source);
        free(p);
        return percept_fail(message, PERCEPT_FAILED, "clBuildProgram gives OpenCL error %d: %s", (int)code, log);
    }
    p->source = source;
    p->program = *program;
    p->next = device->programs;
    device->programs = p;
    return PERCEPT_OK;
}

/* ---- Plans ---------------------------------------------------------------------------------------------------- */

static void plan_free(percept_device *device, percept_plan *plan) {
    int i;
    (void)device;
    for (i = 0; i < TABLES; i++)
        if (plan->tables[i]) clReleaseMemObject(plan->tables[i]);
    if (plan->kernel) clReleaseKernel(plan->kernel);
    free(plan);
}

/* A plan being made: the first thing that goes wrong is kept. */
struct making {
    percept_device *device;
    percept_plan *plan;
    percept_message *message;
    percept_status status;
    cl_uint argument;
    int tables;
};

/* A plan that runs the kernel `name` of a source, over `columns` in whole groups and `rows`. */
static struct making make(percept_device *device, const percept_op *op, struct text *head, const char *functions,
                          const char *body, const char *name, uint64_t columns, uint64_t lines,
                          percept_message *message) {
    struct making m = {device, NULL, message, PERCEPT_OK, 0, 0};
    cl_program program = NULL;
    cl_int code;
    uint64_t i;
    say(head, "%s%s%s", common, functions, body);
    m.plan = (percept_plan *)calloc(1, sizeof *m.plan);
    if (!m.plan || !head->at || head->full) {
        free(head->at);
        m.status = percept_fail(message, PERCEPT_UNSUPPORTED, "%s needs a kernel that is too long", op->name);
        return m;
    }
    m.plan->tensors = (cl_uint)(op->input_count + op->output_count);
    for (i = 0; i < m.plan->tensors; i++)
        m.plan->widths[i] = width_of(i < op->input_count ? op->inputs[i].dtype : op->outputs[i - op->input_count].dtype);
    m.plan->global[0] = (size_t)((columns + GROUP - 1) / GROUP * GROUP);
    m.plan->global[1] = (size_t)lines;
    m.argument = 2 * m.plan->tensors;
    m.status = program_of(device, head->at, &program, message);
    if (m.status != PERCEPT_OK) return m;
    m.plan->kernel = clCreateKernel(program, name, &code);
    if (code != CL_SUCCESS) m.status = result(message, "clCreateKernel", code);
    return m;
}

static void set(struct making *m, const void *value, size_t bytes) {
    cl_int code;
    if (m->status != PERCEPT_OK) return;
    code = clSetKernelArg(m->plan->kernel, m->argument++, bytes, value);
    if (code != CL_SUCCESS) m->status = result(m->message, "clSetKernelArg", code);
}

/* The next arguments, of type uint. */
static void set_uints(struct making *m, size_t count, const int64_t *values) {
    size_t i;
    for (i = 0; i < count; i++) {
        cl_uint v = (cl_uint)values[i];
        set(m, &v, sizeof v);
    }
}

#define UINTS(m, ...) set_uints(m, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

static void set_ulong(struct making *m, uint64_t value) { set(m, &value, sizeof value); }

static void set_float(struct making *m, double value) {
    cl_float v = (cl_float)value;
    set(m, &v, sizeof v);
}

/* A table of offsets, which is copied. */
static void set_table(struct making *m, const cl_ulong *table, uint64_t count) {
    static const cl_ulong nothing[1] = {0};
    cl_int code;
    cl_mem buffer;
    if (m->status == PERCEPT_OK && !table) m->status = result(m->message, "malloc", CL_OUT_OF_HOST_MEMORY);
    if (m->status != PERCEPT_OK) return;
    if (count == 0) table = nothing;
    buffer = clCreateBuffer(m->device->context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR,
                            (size_t)(count ? count : 1) * sizeof *table, (void *)(uintptr_t)table, &code);
    m->status = result(m->message, "clCreateBuffer", code);
    if (code == CL_SUCCESS) m->plan->tables[m->tables++] = buffer;
    set(m, &buffer, sizeof buffer);
}

static status done(struct making *m, percept_planned *planned) {
    if (m->status == PERCEPT_OK) planned->plan = m->plan;
    else if (m->plan) plan_free(m->device, m->plan);
    return m->status;
}

static status no(percept_message *message, const percept_op *op, const char *why) {
    return percept_fail(message, PERCEPT_UNSUPPORTED, "%s %s", op->name, why);
}

static unsigned bits_of(double value) {
    cl_float v = (cl_float)value;
    cl_uint bits;
    memcpy(&bits, &v, sizeof bits);
    return (unsigned)bits;
}

/* Strides of the dense form. */
static void strides_of(const percept_tensor *t, cl_ulong *strides) {
    uint32_t i;
    cl_ulong n = 1;
    for (i = t->rank; i-- > 0; n *= (cl_ulong)t->dims[i]) strides[i] = n;
}

/* The offsets of all indices over some dimensions of a tensor, the last fastest; null without memory. */
static cl_ulong *offsets(const percept_tensor *t, const int64_t *dims, uint64_t rank, uint64_t *count) {
    cl_ulong strides[DIMS], *table;
    uint64_t i, k, rest, n = 1;
    strides_of(t, strides);
    for (k = 0; k < rank; k++) n *= (uint64_t)t->dims[dims[k]];
    table = (cl_ulong *)malloc((size_t)(n + 1) * sizeof *table);
    for (i = 0; table && i < n; i++)
        for (table[i] = 0, rest = i, k = rank; k-- > 0; rest /= (uint64_t)t->dims[dims[k]])
            table[i] += rest % (uint64_t)t->dims[dims[k]] * strides[dims[k]];
    *count = n;
    return table;
}

/* The dimensions that are in neither list. */
static uint64_t others(const percept_tensor *t, const percept_attribute *a, const percept_attribute *b, int64_t *dims) {
    uint64_t count = 0, i;
    uint32_t d;
    for (d = 0; d < t->rank; d++) {
        int taken = 0;
        for (i = 0; a && i < a->count; i++) taken |= a->ints[i] == (int64_t)d;
        for (i = 0; b && i < b->count; i++) taken |= b->ints[i] == (int64_t)d;
        if (!taken) dims[count++] = d;
    }
    return count;
}

/* How an operation becomes a plan. */
#define QUERY(name)                                                                                                    \
    static status name(percept_device *device, const percept_op *op, percept_planned *planned, percept_message *message)

/* ---- Elementwise operations and regions of them --------------------------------------------------------------- */

struct expression {
    const char *name, *floats, *ints, *uints, *bools; /* over x, y and z; null: not for these types */
};

#define F(name, floats) {name, floats, NULL, NULL, NULL}
#define ALL(name, text) {name, text, text, text, text}

static const struct expression expressions[] = {
    F("exp", "exp(x)"), F("expm1", "expm1(x)"), F("log", "log(x)"), F("log1p", "log1p(x)"), F("sqrt", "sqrt(x)"),
    F("rsqrt", "1 / sqrt(x)"), F("sin", "sin(x)"), F("cos", "cos(x)"), F("tanh", "tanh(x)"), F("erf", "erf(x)"),
    F("logistic", "logistic(x)"), F("floor", "floor(x)"), F("ceil", "ceil(x)"), F("round", "rint(x)"),
    F("is_finite", "isfinite(x) ? 1 : 0"), F("pow", "pow(x, y)"), F("div", "x / y"), F("rem", "fmod(x, y)"),
    ALL("compare_eq", "x == y"), ALL("compare_ne", "x != y"), ALL("compare_lt", "x < y"), ALL("compare_le", "x <= y"),
    ALL("compare_gt", "x > y"), ALL("compare_ge", "x >= y"),
    {"neg", "-x", "(int)(0u - (uint)x)", NULL, NULL},
    {"abs", "fabs(x)", "(int)abs(x)", NULL, NULL},
    {"not", NULL, "~x", "~x", "1 - x"},
    {"add", "x + y", "(int)((uint)x + (uint)y)", "x + y", NULL},
    {"sub", "x - y", "(int)((uint)x - (uint)y)", "x - y", NULL},
    {"mul", "x * y", "(int)((uint)x * (uint)y)", "x * y", NULL},
    {"max", "fmax_nan(x, y)", "max(x, y)", "max(x, y)", NULL},
    {"min", "fmin_nan(x, y)", "min(x, y)", "min(x, y)", NULL},
    {"and", NULL, "x & y", "x & y", "x & y"},
    {"or", NULL, "x | y", "x | y", "x | y"},
    {"xor", NULL, "x ^ y", "x ^ y", "x ^ y"},
    {"clamp", "fmin_nan(fmax_nan(y, x), z)", "min(max(y, x), z)", "min(max(y, x), z)", NULL}};

/* The type that values of a dtype have in a kernel. */
static const char *value_type(uint32_t dtype) {
    return is_float(dtype) ? "float" : dtype == PERCEPT_I32 ? "int" : "uint";
}

/* The expression of an operation over x, y and z, or null. */
static const char *expression_of(const percept_op *op, char *room, size_t bytes) {
    uint32_t from = op->input_count > 0 ? op->inputs[0].dtype : 0, to = op->outputs[0].dtype;
    size_t i;
    if (percept_is(op, "cast")) {
        const char *round = to == PERCEPT_F16 ? "round_f16" : to == PERCEPT_BF16 ? "from_bf16(to_bf16" : "";
        const char *close = to == PERCEPT_BF16 ? ")" : "";
        if (is_float(to))
            snprintf(room, bytes, "%s(convert_float(x))%s", round, close);
        else if (to == PERCEPT_BOOL)
            snprintf(room, bytes, "x != 0 ? 1 : 0");
        else if (is_float(from))
            snprintf(room, bytes, "convert_%s_sat_rtz(x)", to == PERCEPT_I32 ? "int" : to == PERCEPT_U32 ? "uint" : "uchar");
        else
            snprintf(room, bytes, "(%s)x", type_of(to));
        return room;
    }
    if (percept_is(op, "bitcast")) {
        snprintf(room, bytes, "as_%s(x)", value_type(to));
        return to == PERCEPT_F32 || to == PERCEPT_I32 || to == PERCEPT_U32 ? room : NULL;
    }
    if (percept_is(op, "select")) return "x ? y : z";
    if (percept_is(op, "activate") || percept_is(op, "gated_activate")) {
        snprintf(room, bytes, "%s(x)%s", percept_text(op, "act"), op->input_count > 1 ? " * y" : "");
        return room;
    }
    for (i = 0; i < sizeof expressions / sizeof *expressions; i++)
        if (percept_is(op, expressions[i].name)) {
            const struct expression *e = &expressions[i];
            if (is_float(from)) return e->floats;
            return from == PERCEPT_I32 ? e->ints : from == PERCEPT_U32 ? e->uints : from == PERCEPT_BOOL ? e->bools : NULL;
        }
    return NULL;
}

/* A value vN that is computed from the values `from`; false when there is no expression. */
static int say_value(struct text *to, const percept_op *op, const uint32_t *from, unsigned number) {
    char room[128];
    const char *text = expression_of(op, room, sizeof room);
    uint64_t i;
    if (!text || op->input_count > 3) return 0;
    say(to, "%s v%u; { ", value_type(op->outputs[0].dtype), number);
    for (i = 0; i < op->input_count; i++)
        say(to, "%s %c = v%u; ", value_type(op->inputs[i].dtype), "xyz"[i], (unsigned)from[i]);
    say(to, "v%u = %s; }\n", number, text);
    return 1;
}

/* Where element i of a broadcast's result is in its operand. */
static void say_broadcast(struct text *to, const percept_op *op) {
    const percept_tensor *x = &op->inputs[0], *y = &op->outputs[0];
    const percept_attribute *axes = percept_attribute_of(op, "axes");
    cl_ulong of_x[DIMS], of_y[DIMS];
    uint32_t k;
    strides_of(x, of_x);
    strides_of(y, of_y);
    say(to, "0");
    for (k = 0; k < x->rank; k++)
        if (x->dims[k] != 1)
            say(to, " + i / %luul %% %luul * %luul", (unsigned long)of_y[axes->ints[k]], (unsigned long)x->dims[k],
                (unsigned long)of_x[k]);
}

/* The nodes of a region, one value after the other. */
static int say_region(struct text *to, const percept_region *region) {
    uint64_t n;
    unsigned value = (unsigned)region->input_count;
    for (n = 0; n < region->node_count; n++, value++) {
        const percept_op *op = region->nodes[n].op;
        const uint32_t *from = region->nodes[n].inputs;
        const char *type = value_type(op->outputs[0].dtype);
        if (percept_is(op, "constant")) {
            const percept_attribute *splat = percept_attribute_of(op, "splat");
            if (!splat) return 0;
            if (is_float(op->outputs[0].dtype))
                say(to, "float v%u = as_float(%uu);\n", value, bits_of(splat->floats[0]));
            else
                say(to, "%s v%u = (%s)%.0fL;\n", type, value, type, splat->floats[0]);
        } else if (percept_is(op, "broadcast")) {
            if (from[0] < region->input_count) {
                say(to, "%s v%u = LOAD%u(", type, value, (unsigned)from[0]);
                say_broadcast(to, op);
                say(to, ");\n");
            } else {
                say(to, "%s v%u = v%u;\n", type, value, (unsigned)from[0]); /* of a constant */
            }
        } else if (!say_value(to, op, from, value)) {
            return 0;
        }
    }
    return 1;
}

QUERY(elementwise) {
    static const uint32_t in_order[] = {0, 1, 2};
    uint64_t i, n = (uint64_t)percept_elements(&op->outputs[0]);
    struct text to = begin(op), body = {(char *)malloc(TEXT), 0, 0};
    struct making m;
    int known = to.at && body.at;
    if (known) say(&body, "__kernel void elementwise(TENSORS, ulong n) { EACH\n");
    for (i = 0; known && i < op->input_count + op->output_count; i++)
        known = is_dense(i < op->input_count ? op->inputs[i].dtype : op->outputs[i - op->input_count].dtype);
    for (i = 0; known && i < op->input_count; i++) /* operands of other shapes are read by their broadcasts */
        if ((uint64_t)percept_elements(&op->inputs[i]) == n)
            say(&body, "%s v%u = LOAD%u(i);\n", value_type(op->inputs[i].dtype), (unsigned)i, (unsigned)i);
    if (known && op->region) known = say_region(&body, op->region);
    else if (known) known = say_value(&body, op, in_order, (unsigned)op->input_count);
    for (i = 0; known && i < op->output_count; i++)
        say(&body, "STORE%u(i, v%u);\n", (unsigned)(op->input_count + i),
            (unsigned)(op->region ? op->region->outputs[i] : op->input_count));
    if (!known || body.full) {
        free(to.at);
        free(body.at);
        return no(message, op, "has no expression here");
    }
    say(&body, "}\n");
    m = make(device, op, &to, "", body.at, "elementwise", n, 1, message);
    free(body.at);
    set_ulong(&m, n);
    return done(&m, planned);
}

/* ---- Rows and products ---------------------------------------------------------------------------------------- */

QUERY(by_row) {
    int is_norm = percept_is(op, "rms_norm");
    uint64_t d = (uint64_t)percept_extent(&op->inputs[0], 0);
    uint64_t n = d ? (uint64_t)percept_elements(&op->inputs[0]) / d : 0;
    struct text to = begin(op);
    struct making m;
    m = make(device, op, &to, rows, is_norm ? rms_norm : softmax, is_norm ? "rms_norm" : "softmax", n * GROUP, 1,
             message);
    UINTS(&m, (int64_t)d);
    if (is_norm) {
        set_float(&m, percept_float(op, "eps", 0));
        set_float(&m, percept_int(op, "unit_offset", 0) ? 1 : 0);
    }
    return done(&m, planned);
}

QUERY(product) {
    const percept_tensor *x = &op->inputs[0], *w = &op->inputs[1];
    const percept_attribute *lists[4];
    static const char *const names[4] = {"lhs_batch", "rhs_batch", "lhs_contract", "rhs_contract"};
    int64_t left[DIMS], right[DIMS];
    cl_ulong *tables[6];
    uint64_t counts[6], i;
    struct text to;
    struct making m;
    for (i = 0; i < 4; i++) lists[i] = percept_attribute_of(op, names[i]);
    if (!is_float(x->dtype) || !is_float(w->dtype)) return no(message, op, "is here for floats");
    tables[0] = offsets(x, lists[0]->ints, lists[0]->count, &counts[0]);
    tables[1] = offsets(w, lists[1]->ints, lists[1]->count, &counts[1]);
    tables[2] = offsets(x, left, others(x, lists[0], lists[2], left), &counts[2]);
    tables[3] = offsets(w, right, others(w, lists[1], lists[3], right), &counts[3]);
    tables[4] = offsets(x, lists[2]->ints, lists[2]->count, &counts[4]);
    tables[5] = offsets(w, lists[3]->ints, lists[3]->count, &counts[5]);
    to = begin(op);
    m = make(device, op, &to, "", dot_general, "dot_general", counts[3], counts[0] * counts[2], message);
    UINTS(&m, (int64_t)counts[2], (int64_t)counts[3], (int64_t)counts[4]);
    for (i = 0; i < 6; free(tables[i++])) set_table(&m, tables[i], counts[i]);
    return done(&m, planned);
}

/* The bytes of a quantized block, and a weight j of one; 0 for formats that are not here. */
static int say_weight(struct text *to, uint32_t dtype) {
    if (dtype == PERCEPT_Q8_0) say(to, "#define BLOCK 34\n#define WEIGHT d * (char)block[2 + j]\n");
    if (dtype == PERCEPT_Q4_0) say(to, "#define BLOCK 18\n#define WEIGHT d * ((block[2 + j %% 16] >> j / 16 * 4 & 15) - 8)\n");
    if (dtype == PERCEPT_Q4_1)
        say(to, "#define BLOCK 20\n#define WEIGHT d * (block[4 + j %% 16] >> j / 16 * 4 & 15) + vload_half(1, (__global const half *)block)\n");
    return dtype == PERCEPT_Q8_0 || dtype == PERCEPT_Q4_0 || dtype == PERCEPT_Q4_1;
}

/* x[.., k] times w[n, k], dense with a bias and an activation, or quantized. */
QUERY(rows_by_weight) {
    const percept_tensor *x = &op->inputs[0], *y = &op->outputs[0];
    int is_dense_ = percept_is(op, "linear");
    uint64_t k = (uint64_t)percept_extent(x, 0), n = (uint64_t)percept_extent(y, 0);
    const char *act = percept_text(op, "act");
    struct text to = begin(op);
    struct making m;
    if (!to.at || percept_int(op, "transposed", 0) || !is_float(x->dtype) || (!is_dense_ && !say_weight(&to, op->inputs[1].dtype))) {
        free(to.at);
        return no(message, op, "is here for floats and q8_0, q4_0, q4_1, not transposed");
    }
    say(&to, "#define ACT %s\n#define BIAS %s\n", *act ? act : "none", percept_int(op, "bias", 0) ? "+ LOAD2(c)" : "");
    say(&to, "#define STORE STORE%u\n", (unsigned)op->input_count);
    m = make(device, op, &to, is_dense_ ? "" : weight, is_dense_ ? linear : quantized_dot,
             is_dense_ ? "linear" : "quantized_dot", n, n ? (uint64_t)percept_elements(y) / n : 0, message);
    UINTS(&m, (int64_t)n, (int64_t)k);
    return done(&m, planned);
}

/* ---- Sequences ------------------------------------------------------------------------------------------------ */

QUERY(rotate) {
    const percept_tensor *x = &op->inputs[0];
    uint64_t n = (uint64_t)percept_elements(x);
    struct text to = begin(op);
    struct making m;
    say(&to, "#define PAIRED %d\n", (int)percept_int(op, "interleaved", 0));
    m = make(device, op, &to, "", rope, "rope", n, 1, message);
    set_ulong(&m, n);
    UINTS(&m, percept_extent(x, 2), percept_extent(x, 1), percept_extent(x, 0), percept_extent(&op->inputs[1], 0));
    return done(&m, planned);
}

QUERY(append) {
    const percept_tensor *cache = &op->inputs[0], *added = &op->inputs[1];
    int paged = (int)percept_int(op, "paged", 0);
    uint64_t n = (uint64_t)percept_elements(added);
    struct text to = begin(op);
    struct making m;
    say(&to, "#define PAGED %d\n#define POOL %ld\n#define RESULT a%d\n#define TABLE(i) %s\n", paged,
        (long)percept_extent(cache, 3), paged ? 4 : 3, paged ? "a3[i]" : "0");
    m = make(device, op, &to, "", kv_append, "kv_append", n, 1, message);
    set_ulong(&m, n);
    UINTS(&m, percept_extent(cache, 2), percept_extent(cache, 1), percept_extent(added, 1), percept_extent(cache, 0), paged ? (uint64_t)percept_extent(&op->inputs[3], 0) : 0);
    if (m.plan) m.plan->copies = 1;
    planned->in_place_count = 1;
    return done(&m, planned);
}

QUERY(attention) {
    const percept_tensor *q = &op->inputs[0], *k = &op->inputs[1], *v = &op->inputs[2];
    unsigned next = 3, out = (unsigned)op->input_count;
    int paged = (int)percept_int(op, "paged", 0);
    uint64_t t = (uint64_t)percept_extent(q, 1), e = (uint64_t)percept_extent(v, 0), n, s = (uint64_t)percept_extent(k, 1);
    struct text to = begin(op);
    struct making m;
    if (e > 512 || percept_int(op, "wide_blocks", 0)) {
        free(to.at);
        return no(message, op, e > 512 ? "has a value row that is too long" : "has blocks that are wider than its window");
    }
    n = (uint64_t)percept_elements(&op->outputs[1]);
    say(&to, "#define SCALE as_float(%uu)\n", bits_of(percept_float(op, "scale", 1)));
    say(&to, "#define CAP as_float(%uu)\n", bits_of(percept_float(op, "soft_cap", 0)));
    say(&to, "#define CAUSAL %d\n#define WINDOW %ld\n#define E %lu\n#define ROWS %luul\n",
        (int)percept_int(op, "causal", 0), (long)percept_int(op, "window", 0), (unsigned long)(e ? e : 1), (unsigned long)n);
    say(&to, "#define STORE STORE%u\n#define LSE a%u\n", out, out + 1);
    if (percept_int(op, "segments", 0)) {
        say(&to, "#define SEGMENTS (a%u[b * t + q] == a%u[b * s + j])\n", next, next + 1);
        next += 2;
    }
    if (percept_int(op, "blocks", 0)) {
        say(&to, "#define BLOCKS (a%u[b * t + q] >= 0 && a%u[b * t + q] == a%u[b * s + j])\n", next, next, next + 1);
        next += 2;
    }
    if (percept_int(op, "offset", 0)) say(&to, "#define OFFSET a%u[b]\n", next++);
    if (percept_int(op, "kv_len", 0)) say(&to, "#define KV_LEN a%u[b]\n", next++);
    say(&to, "#ifndef SEGMENTS\n#define SEGMENTS true\n#endif\n#ifndef BLOCKS\n#define BLOCKS false\n#endif\n");
    say(&to, "#ifndef OFFSET\n#define OFFSET 0\n#endif\n#ifndef KV_LEN\n#define KV_LEN end\n#endif\n");
    if (paged) {
        s *= (uint64_t)percept_extent(&op->inputs[next], 0);
        say(&to, "#define KEY_ROW ((clamp(a%u[b * pages + j / PAGE], 0, %ld) * (ulong)hk + head / (h / hk)) * PAGE + j %% PAGE)\n"
            "#define PAGE %ld\n", next, (long)percept_extent(k, 3) - 1, (long)percept_extent(k, 1));
    } else {
        say(&to, "#define KEY_ROW (((ulong)b * hk + head / (h / hk)) * s + j)\n");
    }
    m = make(device, op, &to, "", attend, "attend", n, 1, message);
    UINTS(&m, percept_extent(q, 2), percept_extent(k, 2), (int64_t)t, (int64_t)s, percept_extent(q, 0), (int64_t)e, paged ? (uint64_t)percept_extent(&op->inputs[next], 0) : 0);
    return done(&m, planned);
}

/* Transposes, broadcasts and slices: each element of the result is one of the operand's. */
QUERY(movement) {
    const percept_tensor *x = &op->inputs[0], *y = &op->outputs[0];
    const percept_attribute *perm = percept_attribute_of(op, "perm"), *axes = percept_attribute_of(op, "axes");
    const percept_attribute *first = percept_attribute_of(op, "start"), *step = percept_attribute_of(op, "stride");
    cl_ulong of_x[DIMS], strides[DIMS] = {0}, dims[DIMS], start = 0;
    struct text to;
    struct making m;
    uint32_t i;
    if (!is_dense(x->dtype) || x->rank > DIMS || y->rank > DIMS) return no(message, op, "is here for dense types");
    strides_of(x, of_x);
    for (i = 0; i < y->rank; i++) dims[i] = (cl_ulong)y->dims[i];
    for (i = 0; perm && i < y->rank; i++) strides[i] = of_x[perm->ints[i]];
    for (i = 0; axes && i < x->rank; i++)
        if (x->dims[i] != 1) strides[axes->ints[i]] = of_x[i];
    for (i = 0; first && i < x->rank; i++) {
        strides[i] = of_x[i] * (cl_ulong)step->ints[i];
        start += of_x[i] * (cl_ulong)first->ints[i];
    }
    to = begin(op);
    m = make(device, op, &to, "", move, "move", (uint64_t)percept_elements(y), 1, message);
    set_ulong(&m, (uint64_t)percept_elements(y));
    set_ulong(&m, start);
    UINTS(&m, y->rank);
    set_table(&m, dims, y->rank);
    set_table(&m, strides, y->rank);
    return done(&m, planned);
}

/* ---- The op library ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    status (*query)(percept_device *, const percept_op *, percept_planned *, percept_message *);
} operations[] = {
    {"softmax", by_row}, {"rms_norm", by_row}, {"dot", product}, {"linear", rows_by_weight},
    {"quantized_dot", rows_by_weight}, {"rope", rotate}, {"kv_append", append},
    {"attention", attention}, {"transpose", movement}, {"broadcast", movement}, {"slice", movement}};

QUERY(query) {
    size_t i;
    uint64_t t;
    for (t = 0; t < op->input_count; t++)
        if (op->inputs[t].rank > DIMS) return no(message, op, "has too many dimensions");
    for (i = 0; i < sizeof operations / sizeof *operations; i++)
        if (percept_is(op, operations[i].name)) return operations[i].query(device, op, planned, message);
    return elementwise(device, op, planned, message);
}

static status launch(percept_queue *queue, const percept_launch *launch, percept_message *message) {
    static const size_t group[2] = {GROUP, 1};
    const percept_plan *plan = launch->plan;
    cl_uint i;
    cl_int code = CL_SUCCESS;
    const percept_span *a = &launch->inputs[0], *y = &launch->outputs[0];
    if (plan->copies && y->bytes > 0 && (a->memory != y->memory || a->offset != y->offset)) {
        status copied = queue_copy(queue, a, y, message);
        if (copied != PERCEPT_OK) return copied;
    }
    if (plan->global[0] == 0 || plan->global[1] == 0) return PERCEPT_OK;
    for (i = 0; i < plan->tensors && code == CL_SUCCESS; i++) {
        const percept_span *span = i < launch->input_count ? &launch->inputs[i] : &launch->outputs[i - launch->input_count];
        cl_ulong offset = span->offset / plan->widths[i];
        code = clSetKernelArg(plan->kernel, 2 * i, sizeof(cl_mem), &span->memory->buffer);
        if (code == CL_SUCCESS) code = clSetKernelArg(plan->kernel, 2 * i + 1, sizeof offset, &offset);
    }
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(queue->queue, plan->kernel, 2, NULL, plan->global, group, 0, NULL, NULL);
    return result(message, "clEnqueueNDRangeKernel", code);
}

static const percept_oplib oplib = {sizeof(percept_oplib), query, plan_free, launch, NULL, NULL, NULL, NULL, NULL, NULL};

static const char *const options[] = {"index", NULL};

static const percept_plugin plugin = {
    sizeof(percept_plugin), PERCEPT_ABI_VERSION, 1, "opencl", "0.1", options, &devices, &oplib, NULL, NULL, NULL};

PERCEPT_EXPORT const percept_plugin *percept_plugin_entry(const percept_host *host, percept_message *message) {
    (void)host, (void)message;
    return &plugin;
}
