/*
 * Holds ascend.h to the headers of CANN: what it declares of the runtime is declared a second time here, beside the
 * real declaration, and a compiler refuses two that differ. Constants are compared.
 */
#define ASCEND_REAL_HEADERS
#include "../ascend.h"

#define AGAIN(result, name, parameters) extern result name parameters;
ASCEND_RUNTIME(AGAIN)

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #ours " is not " #theirs)
SAME(ASCEND_FLOAT, ACL_FLOAT);
SAME(ASCEND_FLOAT16, ACL_FLOAT16);
SAME(ASCEND_INT8, ACL_INT8);
SAME(ASCEND_INT32, ACL_INT32);
SAME(ASCEND_UINT8, ACL_UINT8);
SAME(ASCEND_UINT32, ACL_UINT32);
SAME(ASCEND_INT64, ACL_INT64);
SAME(ASCEND_BOOL, ACL_BOOL);
SAME(ASCEND_BF16, ACL_BF16);
SAME(ASCEND_INT4, ACL_INT4);
SAME(ASCEND_FORMAT_ND, ACL_FORMAT_ND);
SAME(ASCEND_HOST_TO_DEVICE, ACL_MEMCPY_HOST_TO_DEVICE);
SAME(ASCEND_DEVICE_TO_HOST, ACL_MEMCPY_DEVICE_TO_HOST);
SAME(ASCEND_DEVICE_TO_DEVICE, ACL_MEMCPY_DEVICE_TO_DEVICE);
SAME(ASCEND_MALLOC_HUGE_FIRST, ACL_MEM_MALLOC_HUGE_FIRST);
SAME(ASCEND_HBM_MEM, ACL_HBM_MEM);
SAME(ASCEND_CAPTURE_THREAD_LOCAL, ACL_MODEL_RI_CAPTURE_MODE_THREAD_LOCAL);
SAME(ASCEND_OUT_OF_MEMORY, ACL_ERROR_RT_MEMORY_ALLOCATION);

/* Enumerations stand in the signatures, and have the size that ours have. */
SAME(sizeof(aclDataType), sizeof(int));
SAME(sizeof(aclFormat), sizeof(int));
SAME(sizeof(aclrtMemcpyKind), sizeof(int));
SAME(sizeof(aclrtMemMallocPolicy), sizeof(int));
SAME(sizeof(aclrtMemAttr), sizeof(int));
SAME(sizeof(aclmdlRICaptureMode), sizeof(int));
