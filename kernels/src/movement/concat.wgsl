// concat: a row of y [outer, width] is the rows of x0, x1, .. one after another.
// Bindings: x0 .. xk, y. Parameters: width0 .. widthk, width (their sum). Moves bits only.
fn value_y(i: u32) -> $T {
    let row = i / p.width;
    var column = i % p.width;
$FIND}
