use std::collections::HashSet;

use percept_graph::{DType, Role, TensorType, Trace};

use super::{EmitError, InPlace, emit};
use crate::style::{Family, Style};

fn ops(emitted: &super::Emitted) -> Vec<&str> {
    emitted.nodes.iter().map(|n| n.op_type.as_str()).collect()
}

#[test]
fn a_cache_is_written_in_place_and_a_sum_is_not() {
    let t = Trace::new("step");
    let cache = t.input("cache", Role::State, TensorType::new(DType::F32, [1, 2, 8, 4]));
    let total = t.input("total", Role::State, TensorType::new(DType::F32, [4]));
    let (new, pos) = (t.data("new", DType::F32, [1, 2, 1, 4]), t.data("pos", DType::I32, [1]));
    t.output_in_place("cache", &cache.kv_append(&new, &pos, None), &cache);
    t.output_in_place("total", &(&total + 1.0), &total);
    let emitted = emit(&t.finish().unwrap(), Style::runtime(), &HashSet::new()).unwrap();
    assert_eq!(emitted.in_place, [InPlace { output: 0, input: 0 }]);
    // Outputs get names of their own.
    let names: HashSet<&str> =
        emitted.inputs.iter().chain(&emitted.outputs).map(|p| p.name.as_str()).collect();
    assert_eq!(names.len(), 6);
}

#[test]
fn a_cache_that_is_read_otherwise_is_not_written_in_place() {
    let t = Trace::new("step");
    let cache = t.input("cache", Role::State, TensorType::new(DType::F32, [1, 2, 8, 4]));
    let (new, pos) = (t.data("new", DType::F32, [1, 2, 1, 4]), t.data("pos", DType::I32, [1]));
    let next = cache.kv_append(&new, &pos, None);
    t.output_in_place("next", &next, &cache);
    // Nothing orders this behind or before the write.
    t.output("old", &cache.exp());
    let emitted = emit(&t.finish().unwrap(), Style::runtime(), &HashSet::new()).unwrap();
    assert_eq!(emitted.in_place, []);
}

#[test]
fn what_repeats_is_not_repeated_before_it_must_be() {
    let t = Trace::new("spread");
    let (x, w) = (t.data("x", DType::F32, [64, 8]), t.data("w", DType::F32, [8]));
    t.output("y", &(&x * &w + 1.0));
    let emitted = emit(&t.finish().unwrap(), Style::runtime(), &HashSet::new()).unwrap();
    assert_eq!(ops(&emitted), ["Reshape", "Mul", "Add"]);
}

#[test]
fn what_nobody_reads_is_not_written() {
    let t = Trace::new("attention");
    let q = t.data("q", DType::F32, [1, 1, 2, 4]);
    let out = q.attention(&q, &q, &[], percept_graph::AttentionSpec::full(0.5));
    let _unused = q.exp();
    t.output("out", &out);
    let emitted = emit(&t.finish().unwrap(), Style::runtime(), &HashSet::new()).unwrap();
    assert!(!ops(&emitted).contains(&"Log") && !ops(&emitted).contains(&"Exp"), "{:?}", ops(&emitted));
}

#[test]
fn what_a_style_lacks_is_refused_by_name() {
    let t = Trace::new("bits");
    let _scope = t.scope("mask");
    let x = t.data("x", DType::I32, [4]);
    t.output("y", &x.and(&x));
    let graph = t.finish().unwrap();
    let old = Style::new(Family::Plain, Some(17)).unwrap();
    let Err(e @ EmitError::Refused { .. }) = emit(&graph, old, &HashSet::new()) else { panic!("written") };
    let e = e.to_string();
    assert!(["mask", "and", "operator set 18", "17"].iter().all(|p| e.contains(p)), "{e}");
    assert!(emit(&graph, Style::new(Family::Plain, Some(18)).unwrap(), &HashSet::new()).is_ok());
}

#[test]
fn quantized_weights_are_packed_where_an_operator_takes_them() {
    let t = Trace::new("product");
    let (x, w) = (t.data("x", DType::F32, [1, 64]), t.parameter("w", DType::Q4_1, [8, 64]));
    t.output("y", &x.linear(&w, None, None));
    let graph = t.finish().unwrap();
    let parts = |style| {
        let emitted = emit(&graph, style, &HashSet::new()).unwrap();
        emitted.weights.iter().map(|w| (w.name.clone(), w.dims())).collect::<Vec<_>>()
    };
    assert_eq!(parts(Style::new(Family::Plain, None).unwrap()), [("w.floats".to_string(), vec![8, 64])]);
    let packed = parts(Style::runtime());
    assert_eq!(
        packed,
        [
            ("w.low".to_string(), vec![8, 2, 16]),
            ("w.scales".to_string(), vec![8, 2]),
            ("w.centred".to_string(), vec![2, 8]),
        ]
    );
}
