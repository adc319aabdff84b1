//! Logs of a run: one JSON object a line, and TensorBoard's event files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Result, file};
use crate::watch::{Event, Watch};

/// `log.jsonl` and `events.out.tfevents.*` in a folder.
pub struct Log {
    lines: (PathBuf, BufWriter<File>),
    events: (PathBuf, BufWriter<File>),
}

impl Log {
    /// Begin, or go on after `step` steps: lines of later steps, which an interrupted run left, are dropped.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let kept: String = match std::fs::read_to_string(&path) {
            Ok(text) => text.split_inclusive('\n').filter(|l| is_before(l, step)).collect(),
            Err(_) => String::new(),
        };
        let lines = percept_files::write(&path, kept.as_bytes())
            .and_then(|()| File::options().append(true).open(&path))
            .map_err(file(&path))?;
        let lines = (path, BufWriter::new(lines));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path =
            folder.join(format!("events.out.tfevents.{:010}.percept.{}", now.as_secs(), std::process::id()));
        let events = BufWriter::new(File::create(&path).map_err(file(&path))?);
        let mut log = Self { lines, events: (path, events) };
        log.record(&message(&[(3, Field::Bytes(b"brain.Event:2"))]))?;
        Ok(log)
    }

    fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value = |(tag, v): &(&str, f64)| {
            message(&[(1, Field::Bytes(tag.as_bytes())), (2, Field::F32(*v as f32))])
        };
        let values: Vec<Vec<u8>> = values.iter().map(value).collect();
        let summary: Vec<(u32, Field)> = values.iter().map(|v| (1, Field::Bytes(v))).collect();
        let summary = message(&summary);
        self.record(&message(&[(2, Field::Varint(step)), (5, Field::Bytes(&summary))]))
    }

    /// One TFRecord: length, checksum of the length, bytes, checksum of the bytes.
    fn record(&mut self, event: &[u8]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = [&message(&[(1, Field::F64(now))]), event].concat();
        let (path, out) = &mut self.events;
        out.write_all(&framed(&event)).and_then(|()| out.flush()).map_err(file(path))
    }
}

impl Watch for Log {
    fn event(&mut self, event: &Event) -> Result<()> {
        let (path, out) = &mut self.lines;
        let line = serde_json::json!(event);
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(file(path))?;
        match event {
            Event::Step(s) => {
                let mut scalars = vec![
                    ("train/loss", s.loss),
                    ("train/norm", s.norm),
                    ("train/rate", s.rate),
                    ("speed/tokens_per_s", s.tokens_per_s),
                    ("speed/samples_per_s", s.samples_per_s),
                ];
                if let Some(r) = &s.router {
                    scalars.extend([
                        ("router/balance", r.balance),
                        ("router/busiest", r.busiest),
                        ("router/idle", r.idle),
                    ]);
                }
                self.scalars(s.step, &scalars)
            }
            Event::Evaluate(e) => self.scalars(
                e.step,
                &[
                    (&format!("{}/loss", e.corpus), e.loss),
                    (&format!("{}/token_accuracy", e.corpus), e.token_accuracy),
                    (&format!("{}/accuracy", e.corpus), e.accuracy),
                ],
            ),
            _ => Ok(()),
        }
    }
}

/// Whether a whole line tells of one of the first `step` steps.
fn is_before(line: &str, step: u64) -> bool {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    line.ends_with('\n') && value.get("step").and_then(|s| s.as_u64()).is_some_and(|s| s <= step)
}

/// A field of a protocol buffer message.
enum Field<'a> {
    Varint(u64),
    F64(f64),
    F32(f32),
    Bytes(&'a [u8]),
}

fn message(fields: &[(u32, Field)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, field) in fields {
        let wire = match field {
            Field::Varint(_) => 0,
            Field::F64(_) => 1,
            Field::Bytes(_) => 2,
            Field::F32(_) => 5,
        };
        varint(&mut out, (number << 3 | wire).into());
        match field {
            Field::Varint(v) => varint(&mut out, *v),
            Field::F64(v) => out.extend(v.to_le_bytes()),
            Field::F32(v) => out.extend(v.to_le_bytes()),
            Field::Bytes(b) => {
                varint(&mut out, b.len() as u64);
                out.extend(*b);
            }
        }
    }
    out
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let masked = |b: &[u8]| crc32c::crc32c(b).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand from the field numbers of TensorBoard's event.proto and summary.proto: step 2, summary 5, value
    // 1, tag 1 and simple_value 2.
    #[test]
    fn records_are_tensorboards() {
        let value = message(&[(1, Field::Bytes(b"a")), (2, Field::F32(1.5))]);
        let summary = message(&[(1, Field::Bytes(&value))]);
        let event = message(&[(2, Field::Varint(300)), (5, Field::Bytes(&summary))]);
        assert_eq!(
            event,
            [0x10, 0xac, 0x02, 0x2a, 0x0a, 0x0a, 0x08, 0x0a, 0x01, 0x61, 0x15, 0, 0, 0xc0, 0x3f]
        );
        let framed = framed(&event);
        assert_eq!(framed[..8], 15u64.to_le_bytes());
        assert_eq!(framed.len(), 15 + 16);
    }

    #[test]
    fn lines_of_steps_to_come_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let note = |step| Event::Note { step, text: "x".into() };
        let mut log = Log::open(folder.path(), 0).unwrap();
        (1..=3).for_each(|s| log.event(&note(s)).unwrap());
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join("log.jsonl"))
            .unwrap()
            .write_all(b"{\"step\":1,\"cut")
            .unwrap();
        let mut log = Log::open(folder.path(), 2).unwrap();
        log.event(&note(4)).unwrap();
        let text = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        let steps: Vec<&str> = text.lines().map(|l| &l[l.find("step").unwrap() + 6..][..1]).collect();
        assert_eq!(steps, ["1", "2", "4"]);
    }
}
