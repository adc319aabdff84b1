//! An exported module run by the plug-in's own interface alone, beside the f64 reference.

use percept_graph::reference::evaluate;
use percept_graph::{DType, HostTensor, Role, TensorType, Trace, quantize};
use percept_pjrt::{Client, Plugin, export};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::plugin;

fn floats(dims: &[usize], from: f64) -> HostTensor {
    let ty = TensorType::new(DType::F32, dims);
    let values: Vec<f64> = (0..ty.numel()).map(|i| from + (i * 7 % 11) as f64 / 8.0).collect();
    HostTensor::from_f64(ty, &values).unwrap()
}

#[test]
fn files_are_all_that_a_run_needs() {
    let t = Trace::new("layer");
    let x = t.data("x", DType::F32, [2, 64]);
    let (w, scale) = (t.parameter("w", DType::Q8_0, [16, 64]), t.parameter("scale", DType::F32, [64]));
    let sums = t.input("sums", Role::State, TensorType::new(DType::F32, [2, 16]));
    let y = x.rms_norm(&scale, 1e-5).linear(&w, None, None);
    t.output("y", &y.softmax());
    t.output_in_place("sums", &(&sums + &y), &sums);
    let graph = t.finish().unwrap();
    let blocks = quantize(
        DType::Q8_0,
        &floats(&[16, 64], -0.5).values().iter().map(|v| *v as f32).collect::<Vec<_>>(),
    );
    let w = HostTensor::new(TensorType::new(DType::Q8_0, [16, 64]), blocks.unwrap()).unwrap();
    let given = [floats(&[2, 64], -1.0), w, floats(&[64], 0.5), floats(&[2, 16], 0.25)];

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.mlir");
    let written = export(&graph, &|i| Some(given[i].bytes()), &path).unwrap();
    let ends = ["layer.mlir", "layer.mlir.safetensors", "layer.mlir.json"];
    assert_eq!(written, ends.map(|end| folder.path().join(end)));
    // A weight of another length is refused by its name, and nothing is written.
    let none = folder.path().join("none.mlir");
    let refused = export(&graph, &|_| Some(&[0; 3]), &none).unwrap_err().to_string();
    assert!(refused.contains("'w'") && !none.exists(), "{refused}");

    let about: Value = serde_json::from_slice(&std::fs::read(&written[2]).unwrap()).unwrap();
    assert_eq!(
        about["inputs"][1],
        json!({ "name": "w", "role": "weight", "dtype": "u8", "shape": [16, 68], "blocks": "q8_0" })
    );
    assert_eq!(about["inputs"][3]["replaced_by"], "sums");
    assert_eq!(about["outputs"][0], json!({ "name": "y", "dtype": "f32", "shape": [2, 16] }));
    let weights = std::fs::read(&written[1]).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap();

    let Some(id) = plugin::id() else { return };
    let client = Client::shared(Plugin::load(id.trim_start_matches("pjrt:").as_ref()).unwrap()).unwrap();
    let program = client.compile(&std::fs::read_to_string(&path).unwrap(), &[0]).unwrap();
    let mut arguments = Vec::new();
    for input in about["inputs"].as_array().unwrap() {
        let name = input["name"].as_str().unwrap();
        let tensor = &given[graph.input_index(name).unwrap()];
        let bytes = match input["role"].as_str().unwrap() {
            "weight" => weights.tensor(name).unwrap().data(),
            _ => tensor.bytes(),
        };
        arguments.push(client.upload(0, tensor.ty(), bytes).unwrap());
    }
    let made = program.run(&[arguments.iter().collect()], &[128, 128]).unwrap().swap_remove(0);
    let expected = evaluate(&graph, &given).unwrap();
    for ((made, expected), output) in made.iter().zip(&expected).zip(graph.outputs()) {
        let mut bytes = vec![0; 128];
        made.read(2, &mut bytes).unwrap();
        let made = HostTensor::new(expected.ty().clone(), bytes).unwrap().values();
        let off = made.iter().zip(expected.values()).fold(0f64, |e, (a, b)| e.max((a - b).abs()));
        assert!(off < 1e-5, "{} is off by {off}", output.name);
    }
}
