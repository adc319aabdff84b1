//! Several devices of one client.

use percept_graph::{DType, TensorType};
use percept_pjrt::{AllReduce, Client, DeviceBuffer, OptionValue, Plugin};

use crate::plugin;

fn read(buffer: &DeviceBuffer, n: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * n];
    buffer.read(1, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn two_devices_sum_what_each_has() {
    let Some(id) = plugin::id() else { return };
    let plugin = Plugin::load(id.trim_start_matches("pjrt:").as_ref()).unwrap();
    let client = Client::create(plugin, &[("cpu_device_count", OptionValue::Integer(2))]).unwrap();
    assert_eq!(client.device_count(), 2);
    let ty = TensorType::new(DType::F32, [5]);
    let sum = AllReduce::compile(&client, &[0, 1], &ty).unwrap();
    let first = client.upload_f32(0, &[1.0, 2.0, 3.0, -4.0, 0.5]).unwrap();
    let second = client.upload_f32(1, &[10.0, 20.0, 30.0, 4.0, 0.25]).unwrap();
    for _ in 0..3 {
        let sums = sum.run(&[&first, &second]).unwrap();
        assert_eq!(sums.len(), 2);
        for s in &sums {
            assert_eq!(read(s, 5), [11.0, 22.0, 33.0, 0.0, 0.75]);
        }
    }
    // One part too few is refused, and the devices continue.
    assert!(sum.run(&[&first]).err().unwrap().to_string().contains("2 devices"));
    assert_eq!(read(&sum.run(&[&first, &second]).unwrap()[1], 5)[0], 11.0);
}
