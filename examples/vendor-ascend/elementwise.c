/* Elementwise operations: one call each, on types that phase one is asked about. */
#include "plugin.h"

/* WORDS are any dtype, and of unsigned words only the bits matter. */
enum { ANY, FLOATS, BOOLS, INTEGERS, WORDS };

typedef struct row {
    const char *name;
    enum ascend_op op;
    int types;
} row;

static const row unary[] = {
    {"neg", ASCEND_Neg, ANY},
    {"abs", ASCEND_Abs, ANY},
    {"sign", ASCEND_Sign, ANY},
    {"exp", ASCEND_Exp, FLOATS},
    {"expm1", ASCEND_Expm1, FLOATS},
    {"log", ASCEND_Log, FLOATS},
    {"log1p", ASCEND_Log1p, FLOATS},
    {"sqrt", ASCEND_Sqrt, FLOATS},
    {"rsqrt", ASCEND_Rsqrt, FLOATS},
    {"sin", ASCEND_Sin, FLOATS},
    {"cos", ASCEND_Cos, FLOATS},
    {"tanh", ASCEND_Tanh, FLOATS},
    {"erf", ASCEND_Erf, FLOATS},
    {"logistic", ASCEND_Sigmoid, FLOATS},
    {"floor", ASCEND_Floor, FLOATS},
    {"ceil", ASCEND_Ceil, FLOATS},
    {"round", ASCEND_Round, FLOATS},
    {"not", ASCEND_LogicalNot, BOOLS},
    {"not", ASCEND_BitwiseNot, INTEGERS},
    {"is_finite", ASCEND_IsFinite, FLOATS},
};

static const row binary[] = {
    {"mul", ASCEND_Mul, WORDS},
    /* Whole numbers by zero are defined here and not there. */
    {"div", ASCEND_Div, FLOATS},
    {"rem", ASCEND_FmodTensor, FLOATS},
    {"pow", ASCEND_PowTensorTensor, FLOATS},
    {"max", ASCEND_Maximum, ANY},
    {"min", ASCEND_Minimum, ANY},
    {"and", ASCEND_LogicalAnd, BOOLS},
    {"or", ASCEND_LogicalOr, BOOLS},
    {"xor", ASCEND_LogicalXor, BOOLS},
    {"and", ASCEND_BitwiseAndTensor, INTEGERS},
    {"or", ASCEND_BitwiseOrTensor, INTEGERS},
    {"xor", ASCEND_BitwiseXorTensor, INTEGERS},
    {"compare_eq", ASCEND_EqTensor, WORDS},
    {"compare_ne", ASCEND_NeTensor, WORDS},
    {"compare_lt", ASCEND_LtTensor, ANY},
    {"compare_le", ASCEND_LeTensor, ANY},
    {"compare_gt", ASCEND_GtTensor, ANY},
    {"compare_ge", ASCEND_GeTensor, ANY},
};

static bool takes(int types, int type) {
    switch (types) {
    case FLOATS:
        return is_float(type);
    case BOOLS:
        return type == ASCEND_BOOL;
    case INTEGERS:
        return !is_float(type) && type != ASCEND_BOOL;
    default:
        return true;
    }
}

/* The row of an operation on a type; `known` tells whether there is one for another type. */
static const row *row_of(const row *rows, size_t count, const char *name, int type, bool *known) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        *known = true;
        if (takes(rows[i].types, type)) return &rows[i];
    }
    return NULL;
}

/* Operands of the result's dtype may lie where it does. */
static void all_in_place(builder *b) {
    for (uint32_t i = 0; i < b->op->input_count; i++)
        if (b->op->inputs[i].dtype == b->op->outputs[0].dtype) in_place(b, i, 0);
}

/* Unsigned words wrap as signed ones do. */
static void add_or_sub(builder *b, enum ascend_op op) {
    argument a[4] = {in(bits(input(b, 0))), in(bits(input(b, 1))), scalar(1.0, ASCEND_FLOAT), out(bits(output(b, 0)))};
    if (!is_float(a[0].tensor.type)) a[2].integer = ASCEND_INT32;
    call(b, op, 4, a);
}

/* x / 0 is x and x % 0 is 0; -2^31 / -1 wraps. The library is given divisors for which there is no question. */
static void whole_division(builder *b, bool remainder) {
    view x = input(b, 0), y = input(b, 1), to = output(b, 0);
    int64_t single = 1;
    view zero = scratch(b, ASCEND_INT32, 1, &single), one = scratch(b, ASCEND_INT32, 1, &single);
    view minus = scratch(b, ASCEND_INT32, 1, &single), is_zero = scratch(b, ASCEND_BOOL, y.rank, y.dims);
    view is_minus = scratch(b, ASCEND_BOOL, y.rank, y.dims), divisor = scratch(b, ASCEND_INT32, y.rank, y.dims);
    view safe = scratch(b, ASCEND_INT32, y.rank, y.dims), quotient = scratch(b, ASCEND_INT32, y.rank, y.dims);
    view opposite = scratch(b, ASCEND_INT32, y.rank, y.dims),
         whole = remainder ? scratch(b, ASCEND_INT32, y.rank, y.dims) : to;
    CALL(b, InplaceZero, ref(zero));
    CALL(b, Adds, in(zero), scalar(1, ASCEND_INT32), scalar(1, ASCEND_INT32), out(one));
    CALL(b, Adds, in(zero), scalar(-1, ASCEND_INT32), scalar(1, ASCEND_INT32), out(minus));
    CALL(b, EqTensor, in(y), in(zero), out(is_zero));
    CALL(b, EqTensor, in(y), in(minus), out(is_minus));
    CALL(b, SWhere, in(is_zero), in(one), in(y), out(divisor));
    CALL(b, SWhere, in(is_minus), in(one), in(divisor), out(safe));
    CALL(b, DivMod, in(x), in(safe), integer(1), out(quotient));
    CALL(b, Neg, in(x), out(opposite));
    CALL(b, SWhere, in(is_minus), in(opposite), in(quotient), out(whole));
    if (!remainder) return;
    CALL(b, Mul, in(whole), in(divisor), out(quotient));
    CALL(b, Sub, in(x), in(quotient), scalar(1, ASCEND_INT32), out(to));
}

bool build_elementwise(builder *b) {
    const percept_op *op = b->op;
    if (op->input_count == 0) return false;
    int type = input(b, 0).type;
    bool known = false;
    const row *r = row_of(unary, sizeof unary / sizeof unary[0], op->name, type, &known);
    if (type == ASCEND_INT32 && (percept_is(op, "div") || percept_is(op, "rem"))) {
        whole_division(b, percept_is(op, "rem"));
        return true;
    }
    if (r) {
        const argument a[2] = {in(bits(input(b, 0))), out(bits(output(b, 0)))};
        call(b, r->op, 2, a);
    } else if ((r = row_of(binary, sizeof binary / sizeof binary[0], op->name, type, &known))) {
        bool ordered = type == ASCEND_UINT32 && r->types == ANY;
        view y = output(b, 0), x[2] = {bits(input(b, 0)), bits(input(b, 1))};
        for (int i = 0; i < 2 && ordered; i++)
            x[i] = in_order(b, input(b, (uint32_t)i));
        bool back = ordered && y.type == ASCEND_UINT32;
        view to = back ? scratch(b, ASCEND_INT32, y.rank, y.dims) : bits(y);
        const argument a[3] = {in(x[0]), in(x[1]), out(to)};
        call(b, r->op, 3, a);
        if (back) out_of_order(b, y, to);
    } else if (known) {
        refuse(b, "the library's %s has another meaning on this dtype", op->name);
    } else if (percept_is(op, "add")) {
        add_or_sub(b, ASCEND_Add);
    } else if (percept_is(op, "sub")) {
        add_or_sub(b, ASCEND_Sub);
    } else if (percept_is(op, "select")) {
        CALL(b, SWhere, in(input(b, 0)), in(bits(input(b, 1))), in(bits(input(b, 2))), out(bits(output(b, 0))));
    } else if (percept_is(op, "clamp")) {
        view y = output(b, 0), most = scratch(b, bits(y).type, y.rank, y.dims);
        view least = y.type == ASCEND_UINT32 ? scratch(b, ASCEND_INT32, y.rank, y.dims) : y;
        CALL(b, Maximum, in(in_order(b, input(b, 1))), in(in_order(b, input(b, 0))), out(most));
        CALL(b, Minimum, in(most), in(in_order(b, input(b, 2))), out(least));
        if (least.place == AT_SCRATCH) out_of_order(b, y, least);
    } else if (percept_is(op, "cast")) {
        /* Between the two words of 32 bits nothing changes. */
        cast(b, bits(output(b, 0)), bits(input(b, 0)));
        if (output(b, 0).type == ASCEND_UINT32 && is_float(type)) refuse(b, "the library casts no float to uint32");
        if (type == ASCEND_UINT32 && is_float(output(b, 0).type)) refuse(b, "the library casts no uint32 to a float");
    } else {
        return false;
    }
    all_in_place(b);
    return true;
}
