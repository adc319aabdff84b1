/*
 * What this plug-in needs of AscendCL (libascendcl), of the support library of operations (libnnopbase) and of the
 * operations themselves (aclnn, libopapi), declared anew: no header of CANN is needed to build.
 *
 * With ASCEND_REAL_HEADERS the runtime's types come from acl/acl.h instead, and headers_agree.c holds what is declared
 * here to it. The headers of aclnn are not in any package of a public registry, so their part rests on the documents.
 *
 * The lists are macros, so that the table of functions, the lookup of their names, the check against the real headers
 * and the stand-in under fake/ all come from one place.
 */
#ifndef VENDOR_ASCEND_H
#define VENDOR_ASCEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef ASCEND_REAL_HEADERS
#include "acl/acl.h"
#else
typedef int aclError;
typedef void *aclrtStream;
typedef void *aclrtContext;
typedef void *aclmdlRI;
/* Enumerations of the real headers; a C enum has the size of an int. */
typedef int aclDataType;
typedef int aclFormat;
typedef int aclrtMemcpyKind;
typedef int aclrtMemMallocPolicy;
typedef int aclrtMemAttr;
typedef int aclmdlRICaptureMode;
#endif

typedef int32_t aclnnStatus;
typedef struct aclTensor aclTensor;
typedef struct aclScalar aclScalar;
typedef struct aclIntArray aclIntArray;
typedef struct aclTensorList aclTensorList;
typedef struct aclOpExecutor aclOpExecutor;

/* Constants, under names of our own so that they can stand beside the real ones. */
enum {
    ASCEND_FLOAT = 0,
    ASCEND_FLOAT16 = 1,
    ASCEND_INT8 = 2,
    ASCEND_INT32 = 3,
    ASCEND_UINT8 = 4,
    ASCEND_UINT32 = 8,
    ASCEND_INT64 = 9,
    ASCEND_BOOL = 12,
    ASCEND_BF16 = 27,
    ASCEND_INT4 = 29,
    ASCEND_FORMAT_ND = 2,
    ASCEND_HOST_TO_DEVICE = 1,
    ASCEND_DEVICE_TO_HOST = 2,
    ASCEND_DEVICE_TO_DEVICE = 3,
    ASCEND_MALLOC_HUGE_FIRST = 0,
    ASCEND_HBM_MEM = 1,
    ASCEND_CAPTURE_THREAD_LOCAL = 1,
    ASCEND_REPEATED_INITIALIZE = 100002, /* aclInit was called before, which is no error to us */
    ASCEND_OUT_OF_MEMORY = 207001
};

/* F(result, name, parameters): the runtime. */
#define ASCEND_RUNTIME(F)                                                                                              \
    F(aclError, aclInit, (const char *configPath))                                                                     \
    F(const char *, aclGetRecentErrMsg, (void))                                                                        \
    F(const char *, aclrtGetSocName, (void))                                                                           \
    F(aclError, aclrtGetVersion, (int32_t * major, int32_t *minor, int32_t *patch))                                    \
    F(aclError, aclrtGetDeviceCount, (uint32_t * count))                                                               \
    F(aclError, aclrtSetDevice, (int32_t device))                                                                      \
    F(aclError, aclrtCreateContext, (aclrtContext * context, int32_t device))                                          \
    F(aclError, aclrtDestroyContext, (aclrtContext context))                                                           \
    F(aclError, aclrtSetCurrentContext, (aclrtContext context))                                                        \
    F(aclError, aclrtGetMemInfo, (aclrtMemAttr attribute, size_t *free, size_t *total))                                \
    F(aclError, aclrtMalloc, (void **memory, size_t size, aclrtMemMallocPolicy policy))                                \
    F(aclError, aclrtFree, (void *memory))                                                                             \
    F(aclError, aclrtMemcpy, (void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind))            \
    F(aclError, aclrtMemcpyAsync,                                                                                      \
      (void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind, aclrtStream stream))               \
    F(aclError, aclrtCreateStream, (aclrtStream * stream))                                                             \
    F(aclError, aclrtDestroyStream, (aclrtStream stream))                                                              \
    F(aclError, aclrtSynchronizeStream, (aclrtStream stream))                                                          \
    F(aclError, aclmdlRICaptureBegin, (aclrtStream stream, aclmdlRICaptureMode mode))                                  \
    F(aclError, aclmdlRICaptureEnd, (aclrtStream stream, aclmdlRI *graph))                                             \
    F(aclError, aclmdlRIExecuteAsync, (aclmdlRI graph, aclrtStream stream))                                            \
    F(aclError, aclmdlRIDestroy, (aclmdlRI graph))

/* F(result, name, parameters): the objects that describe operands, and executors. */
#define ASCEND_OBJECTS(F)                                                                                              \
    F(aclTensor *, aclCreateTensor,                                                                                    \
      (const int64_t *dims, uint64_t rank, aclDataType type, const int64_t *strides, int64_t offset, aclFormat format, \
       const int64_t *storageDims, uint64_t storageRank, void *data))                                                  \
    F(aclnnStatus, aclDestroyTensor, (const aclTensor *tensor))                                                        \
    F(aclScalar *, aclCreateScalar, (void *value, aclDataType type))                                                   \
    F(aclnnStatus, aclDestroyScalar, (const aclScalar *scalar))                                                        \
    F(aclIntArray *, aclCreateIntArray, (const int64_t *values, uint64_t count))                                       \
    F(aclnnStatus, aclDestroyIntArray, (const aclIntArray *array))                                                     \
    F(aclTensorList *, aclCreateTensorList, (const aclTensor *const *tensors, uint64_t count))                         \
    F(aclnnStatus, aclDestroyTensorList, (const aclTensorList *list)) /* its tensors too */                            \
    F(aclnnStatus, aclSetAclOpExecutorRepeatable, (aclOpExecutor * executor))                                          \
    F(aclnnStatus, aclDestroyAclOpExecutor, (aclOpExecutor * executor))                                                \
    F(aclnnStatus, aclSetTensorAddr, (aclOpExecutor * executor, const size_t index, aclTensor *tensor, void *address)) \
    F(aclnnStatus, aclSetDynamicTensorAddr,                                                                            \
      (aclOpExecutor * executor, size_t index, const size_t within, aclTensorList *tensors, void *address))

/*
 * Signatures of phase one, aclnnXGetWorkspaceSize. In a name each parameter is a letter: t operand, o result,
 * r operand that is overwritten, l list of operands, s scalar, i int64_t, n int, a list of integers, b bool, d double,
 * f float, y dtype, c int8_t, p text. Tensors that may be missing are not told apart.
 */
#define ASCEND_T const aclTensor *
#define ASCEND_O aclTensor *
#define ASCEND_S const aclScalar *
#define ASCEND_A const aclIntArray *
#define ASCEND_L const aclTensorList *
#define ASCEND_END uint64_t *workspace, aclOpExecutor **executor
typedef aclnnStatus (*ascend_to)(ASCEND_T, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tto)(ASCEND_T, ASCEND_T, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_ttto)(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_ttso)(ASCEND_T, ASCEND_T, ASCEND_S, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tso)(ASCEND_T, ASCEND_S, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tsso)(ASCEND_T, ASCEND_S, ASCEND_S, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_ssso)(ASCEND_S, ASCEND_S, ASCEND_S, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tyo)(ASCEND_T, const aclDataType, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tao)(ASCEND_T, ASCEND_A, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tio)(ASCEND_T, int64_t, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tiyo)(ASCEND_T, int64_t, aclDataType, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tito)(ASCEND_T, int64_t, ASCEND_T, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tittso)(ASCEND_T, int64_t, ASCEND_T, ASCEND_T, ASCEND_S, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_ttno)(ASCEND_T, ASCEND_T, int, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tibo)(ASCEND_T, int64_t, bool, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tibyo)(ASCEND_T, int64_t, bool, aclDataType, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tabo)(ASCEND_T, ASCEND_A, bool, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tabyo)(ASCEND_T, ASCEND_A, bool, aclDataType, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tbiboo)(ASCEND_T, bool, int64_t, bool, ASCEND_O, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_r)(ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_rt)(ASCEND_O, ASCEND_T, ASCEND_END);
typedef aclnnStatus (*ascend_ritt)(ASCEND_O, int64_t, ASCEND_T, ASCEND_T, ASCEND_END);
typedef aclnnStatus (*ascend_rtti)(ASCEND_O, ASCEND_T, ASCEND_T, int64_t, ASCEND_END);
typedef aclnnStatus (*ascend_ttoc)(ASCEND_T, ASCEND_T, ASCEND_O, int8_t, ASCEND_END);
typedef aclnnStatus (*ascend_tttssoc)(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_S, ASCEND_S, ASCEND_O, int8_t, ASCEND_END);
typedef aclnnStatus (*ascend_ttdoo)(ASCEND_T, ASCEND_T, double, ASCEND_O, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_ttttoo)(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_O, ASCEND_O, ASCEND_END);
typedef aclnnStatus (*ascend_tattdooo)(ASCEND_T, ASCEND_A, ASCEND_T, ASCEND_T, double, ASCEND_O, ASCEND_O, ASCEND_O,
                                       ASCEND_END);
typedef aclnnStatus (*ascend_tttio)(ASCEND_T, ASCEND_T, ASCEND_T, int64_t, ASCEND_O, ASCEND_END);
/* x, weight, scale, offset?, quantScale?, quantOffset?, bias?, group size, y */
typedef aclnnStatus (*ascend_tttttttno)(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, int,
                                        ASCEND_O, ASCEND_END);
/* var, m, v, maxGradNorm?, grad, step, lr, beta1, beta2, weightDecay, eps, amsgrad, maximize */
typedef aclnnStatus (*ascend_rrrrttfffffbb)(ASCEND_O, ASCEND_O, ASCEND_O, ASCEND_O, ASCEND_T, ASCEND_T, float, float,
                                            float, float, float, bool, bool, ASCEND_END);
/* query, key, value, realShift?, dropMask?, paddingMask?, attenMask?, prefix?, scale, keepProb, preTokens, nextTokens,
   heads, layout, innerPrecise, sparseMode, softmaxMax, softmaxSum, softmaxOut, attentionOut */
typedef aclnnStatus (*ascend_flash)(ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_A,
                                    double, double, int64_t, int64_t, int64_t, char *, int64_t, int64_t, ASCEND_O,
                                    ASCEND_O, ASCEND_O, ASCEND_O, ASCEND_END);
/* query, key, value, pseShift?, attenMask?, lengths?, kv lengths?, 15 tensors of quantization, pages, padding and
   prefixes?, prefix lengths?, heads, scale, preTokens, nextTokens, layout, kv heads, sparseMode, innerPrecise,
   blockSize, antiquantMode, lse wanted, keyAntiquantMode, valueAntiquantMode, attentionOut, softmaxLse */
typedef aclnnStatus (*ascend_infer)(ASCEND_T, ASCEND_L, ASCEND_L, ASCEND_T, ASCEND_T, ASCEND_A, ASCEND_A, ASCEND_T,
                                    ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T,
                                    ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_T, ASCEND_A,
                                    int64_t, double, int64_t, int64_t, char *, int64_t, int64_t, int64_t, int64_t,
                                    int64_t, bool, int64_t, int64_t, ASCEND_O, ASCEND_O, ASCEND_END);

/* Phase two, the same for all. */
typedef aclnnStatus (*ascend_phase_two)(void *workspace, uint64_t size, aclOpExecutor *executor, aclrtStream stream);

/* F(X, signature) for each aclnnX that the plug-in calls. */
#define ASCEND_OPS(F)                                                                                                  \
    F(Neg, to) F(Abs, to) F(Sign, to) F(Exp, to) F(Expm1, to) F(Log, to) F(Log1p, to) F(Sqrt, to) F(Rsqrt, to)         \
    F(Sin, to) F(Cos, to) F(Tanh, to) F(Erf, to) F(Sigmoid, to) F(Floor, to) F(Ceil, to) F(Round, to)                  \
    F(LogicalNot, to) F(BitwiseNot, to) F(IsFinite, to) F(Silu, to) F(Relu, to)                                        \
    F(Mul, tto) F(Div, tto) F(Maximum, tto) F(Minimum, tto) F(PowTensorTensor, tto) F(FmodTensor, tto)                 \
    F(LogicalAnd, tto) F(LogicalOr, tto) F(LogicalXor, tto) F(BitwiseAndTensor, tto) F(BitwiseOrTensor, tto)           \
    F(BitwiseXorTensor, tto) F(EqTensor, tto) F(NeTensor, tto) F(LtTensor, tto) F(LeTensor, tto) F(GtTensor, tto)      \
    F(GeTensor, tto) F(Embedding, tto) F(DivMod, ttno) F(Add, ttso)                                                    \
    F(Sub, ttso) F(Muls, tso) F(Adds, tsso) F(Clamp, tsso)                                                             \
    F(SWhere, ttto) F(Cast, tyo) F(Expand, tao) F(Arange, ssso) F(InplaceCopy, rt) F(InplaceZero, r)                   \
    F(IndexSelect, tito) F(IndexAdd, tittso) F(InplaceIndexCopy, ritt) F(InplaceScatterUpdate, rtti)                   \
    F(Sort, tbiboo) F(ReduceSum, tabyo) F(Amax, tabo) F(Amin, tabo) F(All, tabo) F(Any, tabo) F(ProdDim, tibyo)        \
    F(ArgMax, tibo) F(ArgMin, tibo) F(Cumsum, tiyo) F(Softmax, tio) F(LogSoftmax, tio) F(GeluV2, tio) F(SwiGlu, tio)   \
    F(Gather, tito) F(Mm, ttoc) F(BatchMatMul, ttoc) F(Addmm, tttssoc) F(RmsNorm, ttdoo) F(RmsNormGrad, ttttoo)        \
    F(LayerNorm, tattdooo) F(RotaryPositionEmbedding, tttio) F(WeightQuantBatchMatmulV2, tttttttno)                    \
    F(ApplyAdamWV2, rrrrttfffffbb) F(FlashAttentionScore, flash) F(FusedInferAttentionScoreV2, infer)

enum ascend_op {
#define ASCEND_OP_NUMBER(X, signature) ASCEND_##X,
    ASCEND_OPS(ASCEND_OP_NUMBER)
#undef ASCEND_OP_NUMBER
        ASCEND_OP_COUNT
};

#endif
