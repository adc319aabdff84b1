//! What a gradient graph looks like, and what cannot be differentiated.

use percept_graph::{
    Activation, AttentionSpec, Composite, DType, Graph, Op, Role, Tensor, TensorType, Trace, grad, grad_graph,
};

/// Record a scalar loss and differentiate it with respect to the inputs named.
fn gradient_of(wrt: &[&str], f: impl FnOnce(&Trace) -> Tensor) -> Result<Graph, percept_graph::GraphError> {
    let t = Trace::new("g");
    let y = f(&t);
    let loss = y.sum((0..y.rank()).collect::<Vec<_>>());
    t.output("loss", &loss);
    grad_graph(&t.finish().expect("the forward graph is well formed"), "loss", wrt)
}

fn count(g: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    g.nodes().iter().filter(|n| is(&n.op)).count()
}

fn message(wrt: &[&str], f: impl FnOnce(&Trace) -> Tensor) -> String {
    gradient_of(wrt, f).expect_err("this has no gradient").to_string()
}

#[test]
fn a_gradient_graph_keeps_its_inputs_and_outputs_and_adds_one_per_name() {
    let g = gradient_of(&["w", "x"], |t| {
        let _scope = t.scope("layers.0");
        let x = t.data("x", DType::BF16, [2, 3]);
        let w = t.parameter("w", DType::BF16, [4, 3]);
        x.linear(&w, None, None)
    })
    .unwrap();
    let names: Vec<_> = g.outputs().iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["loss", "grad.w", "grad.x"]);
    for o in &g.outputs()[1..] {
        let input = &g.inputs()[g.input_index(o.name.trim_start_matches("grad.")).unwrap()];
        assert_eq!(g.ty(o.value), g.ty(input.value), "{}", o.name);
    }
    assert!(g.nodes().iter().any(|n| n.path.as_ref() == "grad.layers.0"), "{g}");
}

#[test]
fn composites_differentiate_into_their_backward_composites() {
    let attention = gradient_of(&["q", "k", "v"], |t| {
        let [q, k, v] = ["q", "k", "v"].map(|n| t.data(n, DType::F32, [1, 2, 4, 8]));
        q.attention(&k, &v, &[], AttentionSpec::causal(0.5))
    })
    .unwrap();
    let back = |op: &Op| matches!(op, Op::Composite(Composite::AttentionGrad(_)));
    assert_eq!(count(&attention, back), 1);
    assert_eq!(count(&attention, |op| matches!(op, Op::Dot(_))), 0, "{attention}");

    let norms = gradient_of(&["x", "w", "b"], |t| {
        let x = t.data("x", DType::F32, [3, 8]);
        let [w, b] = ["w", "b"].map(|n| t.parameter(n, DType::F32, [8]));
        x.rms_norm(&w, 1e-6).layer_norm(&w, &b, 1e-6)
    })
    .unwrap();
    assert_eq!(count(&norms, |op| matches!(op, Op::Composite(Composite::RmsNormGrad { .. }))), 1);
    assert_eq!(count(&norms, |op| matches!(op, Op::Composite(Composite::LayerNormGrad { .. }))), 1);

    let loss = gradient_of(&["x"], |t| {
        let x = t.data("x", DType::F32, [3, 8]);
        x.cross_entropy(&t.data("labels", DType::I32, [3]), -100, 0.0)
    })
    .unwrap();
    assert_eq!(count(&loss, |op| matches!(op, Op::Composite(Composite::CrossEntropyGrad { .. }))), 1);

    let quantized = gradient_of(&["x"], |t| {
        t.data("x", DType::F32, [3, 32]).linear(&t.parameter("w", DType::Q4_1, [5, 32]), None, None)
    })
    .unwrap();
    let back = |op: &Op| matches!(op, Op::Composite(Composite::QuantizedDot { transposed: true }));
    assert_eq!(count(&quantized, back), 1);

    let rounded = gradient_of(&["x"], |t| {
        let (x, w) = (t.data("x", DType::F32, [3, 32]), t.parameter("w", DType::Q4_1, [5, 32]));
        t.op(Op::Composite(Composite::Int8Dot), &[&x, &w])
    })
    .unwrap();
    assert_eq!(count(&rounded, back), 1);

    let linear = gradient_of(&["x", "w", "b"], |t| {
        let x = t.data("x", DType::F32, [2, 3, 8]);
        let (w, b) = (t.parameter("w", DType::F32, [5, 8]), t.parameter("b", DType::F32, [5]));
        x.linear(&w, Some(&b), Some(Activation::Silu))
    })
    .unwrap();
    assert_eq!(count(&linear, |op| matches!(op, Op::Dot(_))), 2, "{linear}");
}

#[test]
fn only_what_is_asked_for_is_recorded() {
    let one = gradient_of(&["w"], |t| {
        t.data("x", DType::F32, [2, 3]).exp().linear(&t.parameter("w", DType::F32, [4, 3]), None, None)
    })
    .unwrap();
    assert_eq!(count(&one, |op| matches!(op, Op::Dot(_))), 1, "{one}");
}

#[test]
fn values_of_one_trace_can_be_asked_for_at_any_depth() {
    let t = Trace::new("g");
    let x = t.data("x", DType::F32, [3]);
    let middle = x.exp();
    let loss = (&middle * &middle).sum([0]);
    let g = grad(&loss, &[&middle, &x, &loss, &middle]);
    for (g, of) in g.iter().zip([&middle, &x, &loss, &middle]) {
        assert_eq!(g.ty(), of.ty());
    }
    t.output("g", &g[0]);
    t.finish().unwrap();
}

#[test]
fn a_value_the_loss_does_not_depend_on_is_named() {
    let unused = message(&["unused", "x", "idle"], |t| {
        t.data("unused", DType::F32, [2]);
        t.data("idle", DType::F32, [3]);
        t.data("x", DType::F32, [2]).exp()
    });
    assert!(unused.contains("does not depend on input 'unused', input 'idle',"), "{unused}");
    let cut = message(&["x"], |t| t.data("x", DType::F32, [2]).argmax(0).cast(DType::F32));
    assert!(cut.contains("'x'") && cut.contains("without a derivative"), "{cut}");
    let t = Trace::new("g");
    let x = t.data("x", DType::F32, []);
    let scope = t.scope("head");
    let other = x.exp();
    drop(scope);
    grad(&x.sin(), &[&other]);
    let inner = t.finish().unwrap_err().to_string();
    assert!(inner.contains("exp") && inner.contains("head"), "{inner}");
}

#[test]
fn what_has_no_gradient_says_why() {
    let quantized = message(&["w"], |t| {
        t.data("x", DType::F32, [3, 32]).linear(&t.parameter("w", DType::Q8_0, [5, 32]), None, None)
    });
    assert!(quantized.contains("'w' is quantized"), "{quantized}");
    let integer =
        message(&["n"], |t| t.input("n", Role::Data, TensorType::new(DType::I32, [])).cast(DType::F32));
    assert!(integer.contains("'n' is i32"), "{integer}");

    let t = Trace::new("g");
    let x = t.data("x", DType::F32, [2]);
    assert_eq!(grad(&x.exp(), &[&x]).len(), 1);
    assert!(t.finish().unwrap_err().to_string().contains("float scalar"));

    let (t, other) = (Trace::new("g"), Trace::new("h"));
    let x = t.data("x", DType::F32, []);
    grad(&x, &[&other.data("y", DType::F32, [])]);
    assert!(t.finish().unwrap_err().to_string().contains("another trace"));

    let t = Trace::new("g");
    let x = t.data("x", DType::F32, []);
    t.output("loss", &x.exp());
    let g = t.finish().unwrap();
    assert!(grad_graph(&g, "less", &["x"]).unwrap_err().to_string().contains("no output 'less'"));
    assert!(grad_graph(&g, "loss", &["y"]).unwrap_err().to_string().contains("no input 'y'"));
}

#[test]
fn a_gradient_of_a_failed_value_keeps_the_first_error() {
    let t = Trace::new("g");
    let x = t.data("x", DType::F32, [2]);
    let bad = &x + &t.data("y", DType::F32, [3]);
    assert_eq!(grad(&bad.sum([0]), &[&x]).len(), 1);
    assert!(t.finish().unwrap_err().to_string().starts_with("broadcast"));
}
