//! What tells one checkpoint from another: a hash of its tensors, and the note in an adapter's folder of the
//! base that the adapter was trained on.

use std::path::{Path, PathBuf};

use percept_graph::DType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Result, damaged};
use super::folder::read_capped;
use super::source::Lent;
use super::tensor::{Change, Form};
use super::{Checkpoint, StoredTensor};

/// The file in an adapter's folder that holds a [`Base`], beside PEFT's own files.
pub const BASE_FILE: &str = "percept.json";

/// Bytes that are hashed as one piece, so that the pieces of a large tensor are hashed side by side.
const PIECE: usize = 8 << 20;
/// Bytes of a [`BASE_FILE`], at most.
const BASE_CAP: u64 = 1 << 20;

/// The base that an adapter was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it was.
    pub path: PathBuf,
    /// [`Checkpoint::fingerprint`] of it.
    pub fingerprint: String,
}

impl Base {
    /// What is to be recorded of a checkpoint. Hashing reads all of its bytes.
    ///
    /// # Errors
    /// As [`Checkpoint::fingerprint`].
    pub fn of(checkpoint: &Checkpoint) -> Result<Base> {
        let path = checkpoint.path();
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        Ok(Base { path, fingerprint: checkpoint.fingerprint()? })
    }

    /// What an adapter's folder says about its base, under `base` in its [`BASE_FILE`]; `None` where it says
    /// nothing, as in an adapter from PEFT.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(folder: &Path) -> Result<Option<Base>> {
        #[derive(Deserialize)]
        struct Record {
            base: Option<Base>,
        }
        let path = folder.join(BASE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_capped(&path, BASE_CAP)?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?;
        Ok(record.base)
    }

    /// A sentence that names this base and `other` where they are not the same weights.
    pub fn differs_from(&self, other: &Base) -> Option<String> {
        let short = |b: &Base| b.fingerprint.chars().take(19).collect::<String>();
        (self.fingerprint != other.fingerprint).then(|| {
            format!(
                "it was trained on {} ({}), and the weights of {} are others ({})",
                self.path.display(),
                short(self),
                other.path.display(),
                short(other)
            )
        })
    }
}

impl Checkpoint {
    /// A hash of the tensors: their names, dtypes, shapes and bytes as they are in the file, in order of
    /// their names. How they are spread over files, and how they were asked to be cast, makes no difference.
    ///
    /// # Errors
    /// None where the files can still be read; a file that is cut short while it is open ends the process.
    pub fn fingerprint(&self) -> Result<String> {
        let tensors: Vec<(&String, &StoredTensor)> = self.tensors.iter().collect();
        let digests: Vec<[u8; 32]> = tensors.par_iter().map(|(name, t)| digest(name, t)).collect();
        let mut all = Sha256::new();
        digests.iter().for_each(|d| all.update(d));
        let hex: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(format!("sha256:{hex}"))
    }
}

fn digest(name: &str, tensor: &StoredTensor) -> [u8; 32] {
    let mut all = Sha256::new();
    // Every part is preceded by its length, so that no two checkpoints give the same bytes.
    let mut part = |bytes: &[u8]| {
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    };
    part(name.as_bytes());
    part(form(tensor).as_bytes());
    tensor.ty.dims.iter().for_each(|&d| part(&(d as u64).to_le_bytes()));
    let mut spans: Vec<_> = tensor.parts().iter().map(|part| &part.span).collect();
    if let Form::Scaled { scales, .. } = &tensor.form {
        spans.push(scales);
    }
    for stored in tensor.parts() {
        if let Form::Layer(layer) = &stored.form {
            layer.parts().for_each(|(name, stored)| part(&digest(name, stored)));
        }
    }
    for span in spans {
        let lent = Lent(span.clone());
        let pieces: Vec<_> = lent.as_ref().par_chunks(PIECE).map(Sha256::digest).collect();
        part(&pieces.concat());
    }
    all.finalize().into()
}

/// The elements as the file has them, in words.
fn form(tensor: &StoredTensor) -> String {
    let own = match &tensor.form {
        Form::Graph(dtype) => DType::name(*dtype).to_string(),
        Form::F64 => "f64".into(),
        Form::Integer { bytes, signed } => format!("{}{}", if *signed { "i" } else { "u" }, 8 * bytes),
        Form::Packed(packing) => format!("{packing:?}"),
        Form::Layer(layer) => format!("layer of {}", layer.method()),
        Form::F8 => "f8".into(),
        Form::Joined { parts, runs } => {
            let forms: Vec<String> = parts.iter().map(form).collect();
            format!("{} in {runs} runs", forms.join(" and "))
        }
        Form::Scaled { bytes, .. } => format!("scaled i{}", 8 * bytes),
    };
    match tensor.change {
        Change::None => own,
        Change::Unpermute { heads } => format!("{own}, rows of {heads} heads permuted"),
        Change::MinusOne => format!("{own}, plus one"),
        Change::Turn => format!("{own}, turned"),
        Change::Regroup(order) => format!("{own}, in another order: {order:?}"),
        Change::Rates(order) => format!("{own}, negative exponentials in another order: {order:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use percept_graph::HostTensor;

    use super::*;
    use crate::checkpoint::{LoadOptions, write};

    fn folder(place: &Path, tensors: &[(&str, &[usize], &[f32])]) -> Checkpoint {
        let tensor = |(name, dims, values): &(&str, &[usize], &[f32])| {
            (name.to_string(), HostTensor::from_f32(*dims, values).unwrap())
        };
        let tensors: BTreeMap<_, _> = tensors.iter().map(tensor).collect();
        write(place, &tensors, &BTreeMap::new()).unwrap();
        Checkpoint::open(place).unwrap()
    }

    #[test]
    fn names_shapes_and_values_tell_checkpoints_apart_and_nothing_else_does() {
        let at = tempfile::tempdir().unwrap();
        let place = |name: &str| at.path().join(name);
        let one: &[(&str, &[usize], &[f32])] = &[("a", &[2, 1], &[1.0, 2.0]), ("b", &[1], &[3.0])];
        let first = folder(&place("one"), one);
        let same = folder(&place("two"), one);
        let of = |c: &Checkpoint| c.fingerprint().unwrap();
        assert_eq!(of(&first), of(&same));
        let options = LoadOptions { dtype: Some(DType::BF16), dequantize: true };
        assert_eq!(of(&Checkpoint::open_with(place("one"), options).unwrap()), of(&first));
        let others: [&[(&str, &[usize], &[f32])]; 4] = [
            &[("a", &[1, 2], &[1.0, 2.0]), ("b", &[1], &[3.0])],
            &[("a", &[2, 1], &[1.0, 2.5]), ("b", &[1], &[3.0])],
            &[("a", &[2, 1], &[1.0, 2.0]), ("c", &[1], &[3.0])],
            &[("a", &[2, 1], &[1.0, 2.0])],
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(of(&folder(&place(&format!("other {i}")), other)), of(&first), "{i}");
        }
    }

    // By Python's hashlib, from the layout that the code above describes:
    // import hashlib as h, struct as s; p = lambda b: s.pack("<Q", len(b)) + b; q = lambda n: p(s.pack("<Q", n))
    // d = h.sha256(p(b"a") + p(b"f32") + q(2) + p(h.sha256(s.pack("<2f", 1, 2)).digest())).digest(); h.sha256(d).hexdigest()
    #[test]
    fn a_fingerprint_is_that_of_hashlib() {
        let at = tempfile::tempdir().unwrap();
        let found = folder(&at.path().join("one"), &[("a", &[2], &[1.0, 2.0])]).fingerprint().unwrap();
        assert_eq!(found, "sha256:640167e5a609bc281b71f98edceac692aef38cb3135fad4dc31ca4b89c4d80df");
    }

    #[test]
    fn a_base_is_read_back_and_a_difference_names_both() {
        let at = tempfile::tempdir().unwrap();
        let first = Base::of(&folder(&at.path().join("one"), &[("a", &[1], &[1.0])])).unwrap();
        let other = Base::of(&folder(&at.path().join("two"), &[("a", &[1], &[2.0])])).unwrap();
        assert_eq!(Base::read(at.path()).unwrap(), None);
        let record = serde_json::json!({ "base": first, "more": [] }).to_string();
        std::fs::write(at.path().join(BASE_FILE), record).unwrap();
        assert_eq!(Base::read(at.path()).unwrap().unwrap(), first);
        assert_eq!(first.differs_from(&first), None);
        let told = first.differs_from(&other).unwrap();
        for part in ["one", "two", &first.fingerprint[..19], &other.fingerprint[..19]] {
            assert!(told.contains(part), "{told}");
        }
        std::fs::write(at.path().join(BASE_FILE), "[]").unwrap();
        assert!(Base::read(at.path()).unwrap_err().to_string().contains(BASE_FILE));
    }
}
