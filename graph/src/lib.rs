//! What a model computes: the graph, tracing, autodiff, passes and the reference meaning of every op.
