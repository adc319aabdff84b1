//! Generation: prefill, the KV cache, sampling and stop conditions.
