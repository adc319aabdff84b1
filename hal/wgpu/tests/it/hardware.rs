//! The kernels that a hardware GPU would get, workgroup memory and subgroups included, held to the ladder's cases on
//! whatever adapter there is.

use std::sync::Arc;

use percept_hal::KernelBackedDevice;
use percept_hal::conformance::{Options, Runner, Subject, run};

use crate::adapter;

#[test]
fn kernels_for_hardware_are_right_on_any_adapter() {
    let Some(device) = adapter::open() else { return };
    let mut subject = Subject::new(Arc::new(KernelBackedDevice::new(device.as_hardware())));
    subject.strict = true;
    for filter in ["L1/dot", "L2/linear", "L2/quantized_dot", "L2/softmax", "L2/rms_norm", "L2/attention/f32"]
    {
        let options = Options { filter: Some(filter.into()), ..Options::default() };
        let report = run("wgpu:0", &Runner::InProcess(&subject), &options, &mut |_, _, _| ()).expect("cases");
        let counts = report.counts(None);
        println!("{filter}: {} cases", counts.passed);
        assert_eq!((counts.failed, counts.skipped, report.fallbacks()), (0, 0, 0), "{report}");
        assert!(counts.passed >= 10, "{filter}: {} cases", counts.passed);
    }
}
