//! The leaves of a table's schema, read some records at a time.

use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;
use serde_json::{Number, Value};

use super::meaning::{Meaning, nanoseconds};
use crate::format::rows::Cell;

/// What a leaf holds for some records: for each entry how deep it is defined, where it repeats, and the values that are
/// not null.
pub(super) struct Leaf {
    pub definitions: Vec<i16>,
    pub repetitions: Vec<i16>,
    pub most_defined: i16,
    /// The place among the values of each entry that has one.
    places: Vec<usize>,
    values: Values,
    meaning: Meaning,
    /// Whether entries are those of lists.
    is_repeated: bool,
}

enum Values {
    Bools(Vec<bool>),
    Small(Vec<i32>),
    Large(Vec<i64>),
    Singles(Vec<f32>),
    Doubles(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
    Times(Vec<Int96>),
}

/// The day on which 1970 began, as tables count them.
const EPOCH: i64 = 2_440_588;

impl Leaf {
    /// Read up to `records` records of a column.
    pub fn read(reader: &mut ColumnReader, column: &ColumnDescPtr, records: usize) -> Result<Self> {
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        macro_rules! values {
            ($reader:expr, $wrap:expr) => {{
                let mut values = Vec::new();
                $reader.read_records(records, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
                let count = values.len();
                ($wrap(values), count)
            }};
        }
        let (values, count) = match reader {
            ColumnReader::BoolColumnReader(reader) => values!(reader, Values::Bools),
            ColumnReader::Int32ColumnReader(reader) => values!(reader, Values::Small),
            ColumnReader::Int64ColumnReader(reader) => values!(reader, Values::Large),
            ColumnReader::FloatColumnReader(reader) => values!(reader, Values::Singles),
            ColumnReader::DoubleColumnReader(reader) => values!(reader, Values::Doubles),
            ColumnReader::ByteArrayColumnReader(reader) => values!(reader, Values::Bytes),
            ColumnReader::Int96ColumnReader(reader) => values!(reader, Values::Times),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => values!(reader, Values::Fixed),
        };
        let most_defined = column.max_def_level();
        // Columns without levels leave them out.
        if most_defined == 0 {
            definitions = vec![0; count];
        }
        if column.max_rep_level() == 0 {
            repetitions = vec![0; definitions.len()];
        }
        let mut next = 0;
        let place = |definition: &i16| {
            let place = next;
            next += usize::from(*definition == most_defined);
            place
        };
        let places = definitions.iter().map(place).collect();
        // Levels of a damaged page may be deeper than the column, or more or fewer than its values.
        let deepest = definitions.iter().copied().max().unwrap_or(0);
        if deepest > most_defined || next != count || repetitions.len() != definitions.len() {
            let why = "the levels of its entries do not fit its values";
            return Err(ParquetError::General(format!("column {}: {why}", column.path().string())));
        }
        let is_repeated = column.max_rep_level() > 0;
        let meaning = Meaning::of(column.logical_type_ref(), column.converted_type(), column.type_scale());
        Ok(Self { definitions, repetitions, most_defined, places, values, meaning, is_repeated })
    }

    /// Where each record ends among the entries.
    pub fn record_ends(&self) -> Vec<usize> {
        let starts = self.repetitions.iter().enumerate().skip(1).filter(|(_, repetition)| **repetition == 0);
        let mut ends: Vec<usize> = starts.map(|(at, _)| at).collect();
        if !self.repetitions.is_empty() {
            ends.push(self.repetitions.len());
        }
        ends
    }

    /// What an entry holds; a text that is not UTF-8 comes as bytes.
    pub fn cell(&self, entry: usize) -> Cell {
        if self.definitions[entry] < self.most_defined {
            return Cell::Value(Value::Null);
        }
        let at = self.places[entry];
        let number = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
        Cell::Value(match &self.values {
            Values::Bools(values) => values[at].into(),
            Values::Small(values) if self.meaning == Meaning::Unsigned => (values[at] as u32).into(),
            Values::Small(values) => self.meaning.number(values[at].into()),
            Values::Large(values) if self.meaning == Meaning::Unsigned => (values[at] as u64).into(),
            Values::Large(values) => self.meaning.number(values[at]),
            Values::Singles(values) => number(f64::from(values[at])),
            Values::Doubles(values) => number(values[at]),
            Values::Bytes(values) => return self.bytes_cell(values[at].data()),
            Values::Fixed(values) => return self.bytes_cell(values[at].data()),
            Values::Times(values) => {
                let [low, high, day] = *values[at].data() else { return Cell::Value(Value::Null) };
                nanoseconds(i64::from(day) - EPOCH, (u64::from(high) << 32 | u64::from(low)) as i64)
            }
        })
    }

    fn bytes_cell(&self, bytes: &[u8]) -> Cell {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.meaning == Meaning::Text => Cell::Value(text.into()),
            _ => self.meaning.bytes(bytes).map_or_else(|| Cell::Bytes(None, bytes.to_vec()), Cell::Value),
        }
    }

    /// Bytes that the values of some entries take once they are copied out of their pages.
    pub fn weight(&self, entries: std::ops::Range<usize>) -> usize {
        size_of::<Cell>() * entries.len() + self.bytes(entries)
    }

    /// What all entries come to that a page may have stored once for many: bytes of values, and entries of lists.
    pub fn spread(&self) -> u64 {
        let all = 0..self.definitions.len();
        let entries = if self.is_repeated { all.len() } else { 0 };
        entries as u64 + self.bytes(all) as u64
    }

    fn bytes(&self, entries: std::ops::Range<usize>) -> usize {
        let Values::Bytes(values) = &self.values else { return 0 };
        let held = entries.filter(|at| self.definitions[*at] == self.most_defined);
        held.map(|at| values[self.places[at]].len()).sum()
    }
}
