//! The file of a checkpoint, of one format or another.

use percept_graph::DType;
use percept_model::checkpoint::{Checkpoint, Format, LoadOptions};

/// Opens the file as it is and decoded, and loads every tensor that is not beyond the cap.
pub fn run(format: Format, data: &[u8]) {
    for options in [LoadOptions::default(), LoadOptions { dtype: Some(DType::F16), dequantize: true }] {
        let Ok(checkpoint) = Checkpoint::from_bytes(format, "fuzz", data.to_vec(), options) else { return };
        for name in checkpoint.names() {
            let ty = checkpoint.ty(name).expect("a name that was given has a type");
            // Blocks take more room decoded than in the file, by eight at most.
            assert!(ty.bytes() <= 8 * data.len(), "{name} {ty} is larger than the file allows");
            if let Ok(weight) = checkpoint.weight(name) {
                assert_eq!(weight.bytes().len(), ty.bytes(), "{name} {ty}");
            }
        }
        let _ = (checkpoint.vocabulary(), checkpoint.file("chat_template.jinja"));
        let _ = checkpoint.file("generation_config.json");
    }
}
