// rope: of the first 2 half features of each row, pairs (u, v) become (u cos - v sin, v cos + u sin); the rest stays.
// Bindings: x [b, heads, t, d], cos, sin (f32 [b, t, half]), y. Parameters: half, d, t, heads. Computed in f32.
fn value_y(i: u32) -> f32 {
    let c = i % p.d;
    let x = load_x(i);
    if c >= 2u * p.half {
        return x;
    }
    let row = i / p.d;
    let angle = ((row / p.t / p.heads) * p.t + row % p.t) * p.half + $PAIR;
    let other = load_x($PARTNER);
    let turned = select(other, -other, $FIRST);
    return x * load_cos(angle) + turned * load_sin(angle);
}
