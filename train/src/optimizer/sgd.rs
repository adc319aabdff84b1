//! Stochastic gradient descent with momentum (Polyak 1964, Sutskever et al. 2013). The formula is that of
//! `torch.optim.SGD`, which adds the weight decay to the gradient.

use super::{Operands, Optimizer, Updated};

/// SGD.
pub const OPTIMIZER: &dyn Optimizer = &Sgd;

struct Sgd;

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn about(&self) -> &'static str {
        "Stochastic gradient descent with momentum (Sutskever et al. 2013), whose decay is added to the gradient, as in PyTorch."
    }

    fn settings(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn state(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn update(&self, p: &Operands) -> Updated {
        let [momentum] = p.state else { return Updated { value: p.value.clone(), state: Vec::new() } };
        let gradient = if p.decay > 0.0 { p.gradient + &(p.value * p.decay) } else { p.gradient.clone() };
        let moved = momentum * p.config.momentum + gradient;
        Updated { value: p.value - &(&moved * p.rate), state: vec![moved] }
    }
}

#[cfg(test)]
mod tests {
    use percept_graph::{DType, HostTensor, Role, TensorType, Trace, reference};
    use serde_json::Value;

    use super::*;
    use crate::config::OptimizerConfig;

    /// Values that tests/training/make_golden.py makes too.
    fn formula(n: usize, seed: u64) -> Vec<f64> {
        let hash = |i: usize| (i as u64 + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        (0..n).map(|i| (hash(i) as f64 / 2f64.powi(23) - 1.0) as f32 as f64).collect()
    }

    #[test]
    fn three_steps_are_pytorchs() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../tests/training/golden.json")).unwrap();
        for (case, momentum, decay) in [("plain", 0.0, 0.0), ("momentum", 0.95, 0.1)] {
            let config = OptimizerConfig { momentum, ..OptimizerConfig::default() };
            let ty = TensorType::new(DType::F32, [20]);
            let t = Trace::new("sgd");
            let [p, g, m] = ["p", "g", "m"].map(|n| t.input(n, Role::State, ty.clone()));
            let scalar = |n: &str| t.input(n, Role::Scalar, TensorType::new(DType::F32, []));
            let (rate, number) = (scalar("rate"), scalar("number"));
            let operands = Operands {
                trace: &t,
                value: &p,
                gradient: &g,
                state: std::slice::from_ref(&m),
                rate: &rate,
                number: &number,
                decay,
                config: &config,
            };
            let new = Sgd.update(&operands);
            t.output("p", &new.value);
            t.output("m", &new.state[0]);
            let graph = t.finish().unwrap();
            let tensor = |v: &[f64]| HostTensor::from_f64(ty.clone(), v).unwrap();
            let (mut p, mut m) = (formula(20, 1), vec![0.0; 20]);
            let steps = golden["sgd"][case].as_array().unwrap();
            assert_eq!(steps.len(), 3);
            for (step, expected) in steps.iter().enumerate() {
                let [rate, number] =
                    [0.02, step as f32 + 1.0].map(|v| HostTensor::from_f32([], &[v]).unwrap());
                let gradient = formula(20, step as u64 + 2);
                let inputs = [tensor(&p), tensor(&gradient), tensor(&m), rate, number];
                let out = reference::evaluate(&graph, &inputs).unwrap();
                (p, m) = (out[0].values(), out[1].values());
                for (found, e) in p.iter().zip(expected.as_array().unwrap()) {
                    assert!((found - e.as_f64().unwrap()).abs() < 1e-6, "{case}: {found}, PyTorch has {e}");
                }
            }
        }
    }
}
