// short_conv: y[b, row, c] = sum over taps j of w[c, j] x[b, row - (taps - 1) + j, c]; what is before the first row is that of
// a pool's slot, or zeros, and so is what is of another segment.
// Bindings: x [b, t, c], w [c, taps], segments (i32 [b, t]) or src, count (i32 [b]) and pool [slots, taps - 1, c] where there
// are some, y. Parameters: n, t, c, taps, slots. f32, taps in turn.
fn value_y(i: u32) -> f32 {
    let c = i % p.c;
    let row = (i / p.c) % p.t;
    let b = i / p.c / p.t;
    if row >= $COUNTED {
        return 0.0;
    }
    var total = 0.0;
    for (var j = 0u; j < p.taps; j++) {
        let at = row + j;
        if at + 1u >= p.taps {
            let other = at + 1u - p.taps;
            if $SEEN {
                total += load_w(c * p.taps + j) * load_x((b * p.t + other) * p.c + c);
            }
        } else {
            total += load_w(c * p.taps + j) * $BEFORE;
        }
    }
    return total;
}
