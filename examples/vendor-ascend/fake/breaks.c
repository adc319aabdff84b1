/*
 * Breaks one rule of AscendCL or aclnn, of which the stand-in must tell. `breaks` prints the names of all, one a line,
 * with what the stand-in has to say behind it; `breaks NAME` breaks that rule: the process ends with a message that
 * names it, or, where a real library answers with a status, prints "refused: " and the library's words. `breaks sound`
 * breaks none.
 */
#include "../ascend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECLARE(result, name, parameters) result name parameters;
ASCEND_RUNTIME(DECLARE)
ASCEND_OBJECTS(DECLARE)
aclnnStatus aclnnExpGetWorkspaceSize(ASCEND_T, ASCEND_O, ASCEND_END);
aclnnStatus aclnnExp(void *, uint64_t, aclOpExecutor *, aclrtStream);
aclnnStatus aclnnNeg(void *, uint64_t, aclOpExecutor *, aclrtStream);
aclnnStatus aclnnMulGetWorkspaceSize(ASCEND_T, ASCEND_T, ASCEND_O, ASCEND_END);
aclnnStatus aclnnMul(void *, uint64_t, aclOpExecutor *, aclrtStream);
aclnnStatus aclnnMmGetWorkspaceSize(ASCEND_T, ASCEND_T, ASCEND_O, int8_t, ASCEND_END);
aclnnStatus aclnnInplaceCopyGetWorkspaceSize(ASCEND_O, ASCEND_T, ASCEND_END);
aclnnStatus aclnnInplaceCopy(void *, uint64_t, aclOpExecutor *, aclrtStream);
aclnnStatus aclnnSwiGluGetWorkspaceSize(ASCEND_T, int64_t, ASCEND_O, ASCEND_END);
aclnnStatus aclnnIndexSelectGetWorkspaceSize(ASCEND_T, int64_t, ASCEND_T, ASCEND_O, ASCEND_END);
aclnnStatus aclnnIndexSelect(void *, uint64_t, aclOpExecutor *, aclrtStream);
aclnnStatus aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T,
                                                          ASCEND_T, int, ASCEND_O, ASCEND_END);
aclnnStatus aclnnFlashAttentionScoreGetWorkspaceSize(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T,
                                                     ASCEND_T, ASCEND_A, double, double, int64_t, int64_t, int64_t,
                                                     char *, int64_t, int64_t, ASCEND_O, ASCEND_O, ASCEND_O, ASCEND_O,
                                                     ASCEND_END);

static aclrtStream stream;
static uint8_t *memory; /* of 64 KiB on the device */
static aclOpExecutor *executor;
static uint64_t workspace;

static void start(void) {
    aclrtContext context;
    aclInit(NULL);
    aclrtSetDevice(0);
    aclrtCreateContext(&context, 0);
    aclrtCreateStream(&stream);
    aclrtMalloc((void **)&memory, 65536, ASCEND_MALLOC_HUGE_FIRST);
}

static aclTensor *strided(int type, int rank, const int64_t *dims, const int64_t *strides, int64_t elements,
                          void *data) {
    return aclCreateTensor(dims, (uint64_t)rank, type, strides, 0, ASCEND_FORMAT_ND, &elements, 1, data);
}

static aclTensor *tensor(int type, int rank, const int64_t *dims, void *data) {
    int64_t elements = 1;
    for (int i = 0; i < rank; i++)
        elements *= dims[i];
    return strided(type, rank, dims, NULL, elements, data);
}

static aclTensor *row(int type, void *data) {
    const int64_t dims[1] = {16};
    return tensor(type, 1, dims, data);
}

static void refused(aclnnStatus status) {
    if (status != 0) printf("refused: %s\n", aclGetRecentErrMsg());
}

/* An executor of exp from the beginning of the memory to 1 KiB behind. */
static void plan_exp(aclTensor **x, aclTensor **y) {
    *x = row(ASCEND_FLOAT, memory);
    *y = row(ASCEND_FLOAT, memory + 1024);
    refused(aclnnExpGetWorkspaceSize(*x, *y, &workspace, &executor));
}

static void plan_mul(void) {
    refused(aclnnMulGetWorkspaceSize(row(ASCEND_FLOAT, memory), row(ASCEND_FLOAT, memory + 1024),
                                     row(ASCEND_FLOAT, memory + 2048), &workspace, &executor));
}

static void sound(void) {
    aclTensor *x, *y;
    float one[16] = {1.0f}, result[16];
    aclrtMemcpy(memory, 64, one, 64, ASCEND_HOST_TO_DEVICE);
    plan_exp(&x, &y);
    aclSetAclOpExecutorRepeatable(executor);
    aclnnExp(NULL, 0, executor, stream);
    aclSetTensorAddr(executor, 1, y, memory + 2048);
    aclnnExp(NULL, 0, executor, stream);
    aclrtSynchronizeStream(stream);
    aclrtMemcpy(result, 64, memory + 2048, 64, ASCEND_DEVICE_TO_HOST);
    printf("%s\n", result[0] > 2.7f && result[0] < 2.72f ? "sound" : "wrong");
}

static void run_twice(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclnnExp(NULL, 0, executor, stream);
    aclnnExp(NULL, 0, executor, stream);
}

static void set_once_only(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclSetTensorAddr(executor, 0, x, memory + 2048);
}

static void other_phase_two(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclnnNeg(NULL, 0, executor, stream);
}

static void unaligned(void) { (void)row(ASCEND_FLOAT, memory + 8); }

static void unaligned_set(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclSetAclOpExecutorRepeatable(executor);
    aclSetTensorAddr(executor, 0, x, memory + 48);
}

static void set_null(void) {
    const int64_t q_dims[4] = {1, 1, 2, 16}, eight[4] = {1, 1, 2, 8}, none[1] = {0};
    char layout[] = "BNSD";
    aclTensor *q = tensor(ASCEND_FLOAT, 4, q_dims, memory), *k = tensor(ASCEND_FLOAT, 4, q_dims, memory + 1024);
    aclTensor *v = tensor(ASCEND_FLOAT, 4, q_dims, memory + 2048);
    refused(aclnnFlashAttentionScoreGetWorkspaceSize(
        q, k, v, NULL, NULL, NULL, NULL, NULL, 1.0, 1.0, 65536, 65536, 1, layout, 0, 0,
        tensor(ASCEND_FLOAT, 4, eight, memory + 4096), tensor(ASCEND_FLOAT, 4, eight, memory + 8192),
        tensor(ASCEND_FLOAT, 1, none, memory), tensor(ASCEND_FLOAT, 4, q_dims, memory + 12288), &workspace, &executor));
    aclSetAclOpExecutorRepeatable(executor);
    aclSetTensorAddr(executor, 6, v, memory + 16384);
}

static void set_overwritten(void) {
    aclTensor *to = row(ASCEND_FLOAT, memory);
    refused(aclnnInplaceCopyGetWorkspaceSize(to, row(ASCEND_FLOAT, memory + 1024), &workspace, &executor));
    aclSetAclOpExecutorRepeatable(executor);
    aclSetTensorAddr(executor, 0, to, memory + 2048);
}

static void no_workspace(void) {
    plan_mul();
    aclnnMul(NULL, workspace, executor, stream);
}

static void small_workspace(void) {
    plan_mul();
    aclnnMul(memory + 4096, workspace - 32, executor, stream);
}

static void foreign_workspace(void) {
    plan_mul();
    aclnnMul(memory + 65536 - 32, workspace, executor, stream);
}

static void host_tensor(void) { (void)row(ASCEND_FLOAT, aligned_alloc(64, 64)); }

static void beyond_block(void) {
    const int64_t dims[1] = {64};
    aclTensor *x = tensor(ASCEND_FLOAT, 1, dims, memory + 65536 - 64);
    refused(aclnnExpGetWorkspaceSize(x, tensor(ASCEND_FLOAT, 1, dims, memory), &workspace, &executor));
    aclnnExp(NULL, 0, executor, stream);
}

static void beyond_storage(void) {
    const int64_t dims[2] = {4, 4}, strides[2] = {8, 1};
    (void)strided(ASCEND_FLOAT, 2, dims, strides, 16, memory);
}

static void free_early(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclnnExp(NULL, 0, executor, stream);
    aclrtFree(memory);
}

static void free_twice(void) {
    aclrtFree(memory);
    aclrtFree(memory);
}

static void write_behind(void) {
    /* As a kernel does that is wrong: the host sees the same bytes here. */
    memory[65536] = 1;
    aclrtFree(memory);
}

static void capture_malloc(void) {
    void *more;
    aclmdlRICaptureBegin(stream, ASCEND_CAPTURE_THREAD_LOCAL);
    aclrtMalloc(&more, 64, ASCEND_MALLOC_HUGE_FIRST);
}

static void capture_copy(void) {
    static float from[16];
    aclmdlRICaptureBegin(stream, ASCEND_CAPTURE_THREAD_LOCAL);
    aclrtMemcpyAsync(memory, 64, from, 64, ASCEND_HOST_TO_DEVICE, stream);
}

static void capture_wait(void) {
    aclmdlRICaptureBegin(stream, ASCEND_CAPTURE_THREAD_LOCAL);
    aclrtSynchronizeStream(stream);
}

static void replay_destroyed(void) {
    aclmdlRI graph;
    aclmdlRICaptureBegin(stream, ASCEND_CAPTURE_THREAD_LOCAL);
    aclmdlRICaptureEnd(stream, &graph);
    aclmdlRIDestroy(graph);
    aclmdlRIExecuteAsync(graph, stream);
}

static void replay_freed(void) {
    aclmdlRI graph;
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclmdlRICaptureBegin(stream, ASCEND_CAPTURE_THREAD_LOCAL);
    aclnnExp(NULL, 0, executor, stream);
    aclmdlRICaptureEnd(stream, &graph);
    aclrtFree(memory);
    aclmdlRIExecuteAsync(graph, stream);
    aclrtSynchronizeStream(stream);
}

static void destroy_twice(void) {
    aclTensor *x = row(ASCEND_FLOAT, memory);
    aclDestroyTensor(x);
    aclDestroyTensor(x);
}

static void tensor_gone(void) {
    aclTensor *x, *y;
    plan_exp(&x, &y);
    aclDestroyTensor(x);
    aclnnExp(NULL, 0, executor, stream);
}

static void *on_thread(void *nothing) {
    void *more;
    aclrtMalloc(&more, 64, ASCEND_MALLOC_HUGE_FIRST);
    return nothing;
}

static void no_context(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, on_thread, NULL);
    pthread_join(thread, NULL);
}

static void index_beyond(void) {
    const int64_t two[1] = {2}, to[1] = {2};
    const int32_t indices[2] = {0, 16};
    aclrtMemcpy(memory + 4096, 8, indices, 8, ASCEND_HOST_TO_DEVICE);
    refused(aclnnIndexSelectGetWorkspaceSize(row(ASCEND_FLOAT, memory), 0, tensor(ASCEND_INT32, 1, two, memory + 4096),
                                             tensor(ASCEND_FLOAT, 1, to, memory + 1024), &workspace, &executor));
    aclnnIndexSelect(memory + 8192, workspace, executor, stream);
    aclrtSynchronizeStream(stream);
}

static void long_copy(void) {
    static float from[32];
    aclrtMemcpy(memory, 64, from, 128, ASCEND_HOST_TO_DEVICE);
}

static void no_bf16(void) {
    setenv("FAKE_ASCEND_CHIP", "310P", 1);
    refused(aclnnMulGetWorkspaceSize(row(ASCEND_BF16, memory), row(ASCEND_BF16, memory + 1024),
                                     row(ASCEND_BF16, memory + 2048), &workspace, &executor));
}

static void f32_product(void) {
    const int64_t dims[2] = {4, 4};
    setenv("FAKE_ASCEND_CHIP", "310P", 1);
    refused(aclnnMmGetWorkspaceSize(tensor(ASCEND_FLOAT, 2, dims, memory), tensor(ASCEND_FLOAT, 2, dims, memory + 1024),
                                    tensor(ASCEND_FLOAT, 2, dims, memory + 2048), 0, &workspace, &executor));
}

static void float_mask(void) {
    const int64_t q_dims[4] = {1, 1, 2, 16}, m_dims[4] = {1, 1, 2, 2}, eight[4] = {1, 1, 2, 8}, none[1] = {0};
    char layout[] = "BNSD";
    aclTensor *q = tensor(ASCEND_FLOAT, 4, q_dims, memory);
    refused(aclnnFlashAttentionScoreGetWorkspaceSize(
        q, q, q, NULL, NULL, NULL, tensor(ASCEND_FLOAT, 4, m_dims, memory), NULL, 1.0, 1.0, 65536, 65536, 1, layout, 0,
        0, tensor(ASCEND_FLOAT, 4, eight, memory + 4096), tensor(ASCEND_FLOAT, 4, eight, memory + 8192),
        tensor(ASCEND_FLOAT, 1, none, memory), tensor(ASCEND_FLOAT, 4, q_dims, memory + 12288), &workspace, &executor));
}

static void strided_glu(void) {
    const int64_t dims[2] = {4, 8}, strides[2] = {16, 1}, to[2] = {4, 4};
    refused(aclnnSwiGluGetWorkspaceSize(strided(ASCEND_FLOAT, 2, dims, strides, 64, memory), 1,
                                        tensor(ASCEND_FLOAT, 2, to, memory + 1024), &workspace, &executor));
}

static void small_groups(void) {
    const int64_t x[2] = {1, 64}, w[2] = {64, 8}, s[2] = {4, 8}, y[2] = {1, 8};
    refused(aclnnWeightQuantBatchMatmulV2GetWorkspaceSize(
        tensor(ASCEND_FLOAT16, 2, x, memory), tensor(ASCEND_INT8, 2, w, memory), tensor(ASCEND_FLOAT16, 2, s, memory),
        NULL, NULL, NULL, NULL, 16, tensor(ASCEND_FLOAT16, 2, y, memory), &workspace, &executor));
}

static void repeat_self_copy(void) {
    refused(
        aclnnInplaceCopyGetWorkspaceSize(row(ASCEND_FLOAT, memory), row(ASCEND_FLOAT, memory), &workspace, &executor));
    refused(aclSetAclOpExecutorRepeatable(executor));
}

static const struct {
    const char *name, *says;
    void (*break_it)(void);
} modes[] = {
    {"run_twice", "an executor runs once unless it is repeatable", run_twice},
    {"set_once_only", "only a repeatable executor takes addresses", set_once_only},
    {"other_phase_two", "phase two of the same operation", other_phase_two},
    {"unaligned", "addresses are aligned to 32 bytes", unaligned},
    {"unaligned_set", "addresses are aligned to 32 bytes", unaligned_set},
    {"set_null", "a tensor that was null cannot be set", set_null},
    {"set_overwritten", "the address of an overwritten operand stays", set_overwritten},
    {"no_workspace", "workspace", no_workspace},
    {"small_workspace", "workspace", small_workspace},
    {"foreign_workspace", "workspace", foreign_workspace},
    {"host_tensor", "device memory", host_tensor},
    {"beyond_block", "stay within memory", beyond_block},
    {"beyond_storage", "strides", beyond_storage},
    {"free_early", "wait before free", free_early},
    {"free_twice", "live handles", free_twice},
    {"write_behind", "stay within memory", write_behind},
    {"capture_malloc", "capture", capture_malloc},
    {"capture_copy", "capture", capture_copy},
    {"capture_wait", "capture", capture_wait},
    {"replay_destroyed", "live handles", replay_destroyed},
    {"replay_freed", "live memory", replay_freed},
    {"destroy_twice", "live handles", destroy_twice},
    {"tensor_gone", "tensors outlive their executor", tensor_gone},
    {"no_context", "context of the thread", no_context},
    {"index_beyond", "indices are in range", index_beyond},
    {"long_copy", "stay within memory", long_copy},
    {"no_bf16", "refused: dtype 27 is not on this chip", no_bf16},
    {"f32_product", "refused: f32 products of this chip want cubeMathType 1", f32_product},
    {"float_mask", "refused: a mask is bool or whole numbers of 8 bits", float_mask},
    {"strided_glu", "refused: SwiGlu wants contiguous memory", strided_glu},
    {"small_groups", "refused: groups of 16", small_groups},
    {"repeat_self_copy", "refused: this executor cannot be repeatable", repeat_self_copy},
    {"sound", "sound", sound},
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (count < 2) {
            printf("%s %s\n", modes[i].name, modes[i].says);
        } else if (strcmp(modes[i].name, arguments[1]) == 0) {
            start();
            modes[i].break_it();
            printf("end\n");
            return 0;
        }
    }
    if (count < 2) return 0;
    fprintf(stderr, "breaks: there is no '%s'\n", arguments[1]);
    return 2;
}
