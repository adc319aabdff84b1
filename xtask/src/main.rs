//! Setup, test, bench: what the commands in the README call.

fn main() {}
