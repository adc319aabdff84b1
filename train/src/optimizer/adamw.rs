//! AdamW: moments of first and second order, and decay apart from them. The formula is that of
//! `torch.optim.AdamW`.

use percept_graph::{Composite, Op};

use super::{Operands, Optimizer, Updated};

/// AdamW.
pub const OPTIMIZER: &dyn Optimizer = &AdamW;

struct AdamW;

impl Optimizer for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn about(&self) -> &'static str {
        "AdamW with decoupled decay (Loshchilov and Hutter 2019)."
    }

    fn settings(&self) -> &'static [&'static str] {
        &["betas", "eps"]
    }

    fn state(&self) -> &'static [&'static str] {
        &["m", "v"]
    }

    fn update(&self, p: &Operands) -> Updated {
        let op = Composite::AdamW {
            beta1: p.config.betas[0],
            beta2: p.config.betas[1],
            eps: p.config.eps,
            weight_decay: p.decay as f32,
        };
        let mut operands = vec![p.value, p.gradient];
        operands.extend(p.state);
        operands.extend([p.rate, p.number]);
        let mut results = p.trace.ops(Op::Composite(op), &operands).into_iter();
        // Where recording fails the trace keeps the error, and what is given back is ignored.
        let value = results.next().unwrap_or_else(|| p.value.clone());
        Updated { value, state: results.collect() }
    }
}
