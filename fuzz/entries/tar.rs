//! A tar shard: read in order, as a recipe does, and by its index, as training does.

use percept_data::format::webdataset::Shard;

use super::rows;

/// The bytes are a shard, packed with gzip or not.
pub fn run(data: &[u8]) {
    rows::read("shard.tar", data);
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = folder.path().join("shard.tar");
    std::fs::write(&path, data).expect("there is room for temporary files");
    let Ok(shard) = Shard::open(&path) else { return };
    for at in 0..shard.len() {
        if let Ok(sample) = shard.read(at) {
            let bytes: usize = sample.media.iter().map(|medium| medium.bytes.len()).sum();
            assert!(bytes <= data.len(), "{}: a sample is larger than its shard", sample.key);
        }
    }
}
