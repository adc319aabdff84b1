//! Emitted modules beside modules written by hand.

use percept_graph::{DType, Graph, Role, TensorType, Trace};
use percept_pjrt::stablehlo::emit;

fn graph(name: &str, build: impl Fn(&Trace)) -> Graph {
    let t = Trace::new(name);
    build(&t);
    t.finish().unwrap()
}

#[test]
fn a_product_names_its_dimensions_types_and_precision() {
    let g = graph("product", |t| {
        let (x, w) = (t.data("x", DType::BF16, [2, 3]), t.parameter("w", DType::BF16, [5, 3]));
        t.output("y", &x.dot(&w, (&[], &[]), (&[1], &[1])));
    });
    let expected = "\
module @product {
  func.func public @main(%arg0: tensor<2x3xbf16>, %arg1: tensor<5x3xbf16>) -> (tensor<2x5xbf16>) {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [1], precision = [DEFAULT, DEFAULT] : (tensor<2x3xbf16>, tensor<5x3xbf16>) -> tensor<2x5xf32>
    %1 = stablehlo.convert %0 : (tensor<2x5xf32>) -> tensor<2x5xbf16>
    return %1 : tensor<2x5xbf16>
  }
}
";
    assert_eq!(emit(&g).unwrap(), expected);
}

#[test]
fn state_that_is_replaced_is_an_aliased_argument() {
    let g = graph("count-1", |t| {
        let n = t.input("n", Role::State, TensorType::new(DType::I32, []));
        t.output_in_place("next", &(&n + 1.0), &n);
    });
    let expected = "\
module @count_1 {
  func.func public @main(%arg0: tensor<i32> {tf.aliasing_output = 0 : i32}) -> (tensor<i32>) {
    %0 = stablehlo.constant dense<1> : tensor<i32>
    %1 = stablehlo.add %arg0, %0 : tensor<i32>
    return %1 : tensor<i32>
  }
}
";
    assert_eq!(emit(&g).unwrap(), expected);
}

#[test]
fn an_integer_division_never_divides_by_zero() {
    let g = graph("div", |t| {
        let (a, b) = (t.data("a", DType::U32, [4]), t.data("b", DType::U32, [4]));
        t.output("y", &(&a / &b));
    });
    let expected = "\
module @div {
  func.func public @main(%arg0: tensor<4xui32>, %arg1: tensor<4xui32>) -> (tensor<4xui32>) {
    %0 = stablehlo.constant dense<0> : tensor<4xui32>
    %1 = stablehlo.constant dense<1> : tensor<4xui32>
    %2 = stablehlo.compare EQ, %arg1, %0, UNSIGNED : (tensor<4xui32>, tensor<4xui32>) -> tensor<4xi1>
    %3 = stablehlo.select %2, %1, %arg1 : tensor<4xi1>, tensor<4xui32>
    %4 = stablehlo.divide %arg0, %3 : tensor<4xui32>
    return %4 : tensor<4xui32>
  }
}
";
    assert_eq!(emit(&g).unwrap(), expected);
}

#[test]
fn a_quantized_weight_is_an_argument_of_bytes() {
    let g = graph("weight", |t| {
        let w = t.parameter("w", DType::Q8_0, [2, 64]);
        t.output("y", &w.dequantize(DType::F32));
    });
    let text = emit(&g).unwrap();
    assert!(text.contains("@main(%arg0: tensor<2x68xui8>) -> (tensor<2x64xf32>)"), "{text}");
}
