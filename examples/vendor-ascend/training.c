/* The optimizer's step. */
#include "plugin.h"

/*
 * ApplyAdamWV2 takes the learning rate as a number of the host, and Percept's is on the device, where it changes with
 * every step. So the library steps from zero with rate 1 and no decay, which leaves the direction, negated, and the
 * rate and the decay are applied to that.
 */
static void adam_w(builder *b) {
    view p = input(b, 0), g = input(b, 1), m = input(b, 2), v = input(b, 3), rate = input(b, 4), step = input(b, 5);
    view new_p = output(b, 0), new_m = output(b, 1), new_v = output(b, 2);
    view direction = scratch(b, p.type, p.rank, p.dims), decay = scratch(b, p.type, p.rank, p.dims);
    view sum = scratch(b, p.type, p.rank, p.dims);
    const percept_op *op = b->op;
    in_place(b, 0, 0);
    in_place(b, 2, 1);
    in_place(b, 3, 2);
    copy(b, new_m, m);
    copy(b, new_v, v);
    CALL(b, InplaceZero, ref(direction));
    CALL(b, ApplyAdamWV2, ref(direction), ref(new_m), ref(new_v), ref(nothing()), in(g), in(step), real(1.0),
         real(percept_float(op, "beta1", 0.9)), real(percept_float(op, "beta2", 0.999)), real(0.0),
         real(percept_float(op, "eps", 1e-8)), integer(0), integer(0));
    CALL(b, Muls, in(p), scalar(percept_float(op, "weight_decay", 0.0), ASCEND_FLOAT), out(decay));
    CALL(b, Sub, in(decay), in(direction), scalar(1, ASCEND_FLOAT), out(sum));
    CALL(b, Mul, in(sum), in(rate), out(decay));
    CALL(b, Sub, in(p), in(decay), scalar(1, ASCEND_FLOAT), out(new_p));
}

bool build_training(builder *b) {
    if (!percept_is(b->op, "adam_w")) return false;
    adam_w(b);
    return true;
}
