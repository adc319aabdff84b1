//! Parts of a buffer are read where they lie, by the CPU's own copy as by what devices have without one.

use percept_graph::{DType, TensorType};
use percept_hal::conformance::ReferenceDevice;
use percept_hal::{Device, Error};

#[test]
fn parts_of_a_buffer_are_read_where_they_lie() {
    let cpu = percept_cpu::open(2).unwrap();
    let reference = ReferenceDevice::default();
    for device in [&cpu as &dyn Device, &reference] {
        let ty = TensorType::new(DType::I32, [6]);
        let bytes: Vec<u8> = (0..24).collect();
        let buffer = device.upload(&ty, &bytes).unwrap();
        let (mut first, mut none, mut last) = ([0; 4], [0; 0], [0; 9]);
        device
            .read_parts(&buffer, &mut [(15, &mut last[..]), (24, &mut none[..]), (0, &mut first[..])])
            .unwrap();
        assert_eq!((&first[..], &last[..]), (&bytes[..4], &bytes[15..]));
        for at in [16, 25, usize::MAX] {
            let behind = device.read_parts(&buffer, &mut [(at, &mut last[..])]);
            assert!(matches!(behind, Err(Error::ByteCount { .. })), "{at}: {behind:?}");
        }
    }
}
