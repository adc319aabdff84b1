//! Records put together from columns, by the levels that say how deep each entry is defined and where it repeats
//! (Melnik et al., Dremel, 2010).

use std::ops::Range;

use parquet::basic::{ConvertedType, Repetition};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::columns::Leaf;
use crate::format::rows::Cell;

/// A field of the schema.
pub(super) struct Node {
    pub name: String,
    is_optional: bool,
    is_repeated: bool,
    /// How deep an entry is defined where this field is not null, or not empty.
    definition: i16,
    /// The level at which this field repeats.
    repetition: i16,
    /// Its leaves among all.
    leaves: Range<usize>,
    children: Vec<Node>,
    is_list: bool,
}

impl Node {
    /// The fields of a schema's root.
    pub fn fields(root: &Type) -> Vec<Node> {
        let mut leaves = 0;
        root.get_fields().iter().map(|field| Node::new(field, 0, 0, &mut leaves)).collect()
    }

    fn new(field: &Type, definition: i16, repetition: i16, leaves: &mut usize) -> Self {
        let info = field.get_basic_info();
        let kind = if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED };
        let (is_optional, is_repeated) = (kind == Repetition::OPTIONAL, kind == Repetition::REPEATED);
        let definition = definition + i16::from(is_optional || is_repeated);
        let repetition = repetition + i16::from(is_repeated);
        let first = *leaves;
        let children: Vec<Node> = match field {
            Type::PrimitiveType { .. } => {
                *leaves += 1;
                Vec::new()
            }
            Type::GroupType { fields, .. } => {
                fields.iter().map(|field| Node::new(field, definition, repetition, leaves)).collect()
            }
        };
        let is_list = info.converted_type() == ConvertedType::LIST
            && matches!(children.as_slice(), [child] if child.is_repeated);
        let (name, leaves) = (field.name().to_owned(), first..*leaves);
        Self { name, is_optional, is_repeated, definition, repetition, leaves, children, is_list }
    }

    /// What the field holds in one record. `entries` are the record's entries in each leaf of the table.
    pub fn cell(&self, leaves: &[Leaf], entries: &[Range<usize>]) -> Option<Cell> {
        let first = self.leaves.clone().next()?;
        let defined = *leaves[first].definitions.get(entries[first].start)?;
        if !self.is_repeated {
            if self.is_optional && defined < self.definition {
                return Some(Cell::Value(Value::Null));
            }
            return self.one(leaves, entries);
        }
        if defined < self.definition {
            return Some(Cell::Value(Value::Array(Vec::new())));
        }
        let mut elements: Vec<Vec<Range<usize>>> = Vec::new();
        for leaf in self.leaves.clone() {
            let starts: Vec<usize> = entries[leaf]
                .clone()
                .filter(|at| *at == entries[leaf].start || leaves[leaf].repetitions[*at] == self.repetition)
                .collect();
            elements.resize(elements.len().max(starts.len()), entries.to_vec());
            for (element, start) in starts.iter().enumerate() {
                let end = starts.get(element + 1).copied().unwrap_or(entries[leaf].end);
                elements[element][leaf] = *start..end;
            }
        }
        let cells: Option<Vec<Cell>> = elements.iter().map(|entries| self.one(leaves, entries)).collect();
        cells.map(list)
    }

    /// A field that is there once.
    fn one(&self, leaves: &[Leaf], entries: &[Range<usize>]) -> Option<Cell> {
        if self.children.is_empty() {
            let leaf = self.leaves.start;
            return Some(leaves.get(leaf)?.cell(entries[leaf].start));
        }
        if self.is_list {
            let repeated = &self.children[0];
            let cell = repeated.cell(leaves, entries)?;
            // The group between a list and its elements says nothing.
            return Some(if repeated.children.len() == 1 {
                unwrapped(cell, &repeated.children[0].name)
            } else {
                cell
            });
        }
        let mut fields = Vec::with_capacity(self.children.len());
        for child in &self.children {
            fields.push((child.name.clone(), child.cell(leaves, entries)?));
        }
        Some(group(fields))
    }
}

/// Elements as a value if all of them are values, and as a list of media otherwise.
fn list(cells: Vec<Cell>) -> Cell {
    if cells.iter().all(|cell| matches!(cell, Cell::Value(_))) {
        let value = |cell| match cell {
            Cell::Value(value) => value,
            Cell::Bytes(..) | Cell::List(_) => Value::Null,
        };
        return Cell::Value(Value::Array(cells.into_iter().map(value).collect()));
    }
    Cell::List(cells)
}

/// A struct: `{bytes, path}` is a medium, everything else an object.
fn group(fields: Vec<(String, Cell)>) -> Cell {
    let has_bytes = fields.iter().any(|(name, cell)| name == "bytes" && matches!(cell, Cell::Bytes(..)));
    if has_bytes {
        let (mut path, mut bytes) = (None, Vec::new());
        for (name, cell) in fields {
            match (name.as_str(), cell) {
                ("bytes", Cell::Bytes(_, found)) => bytes = found,
                ("path", Cell::Value(Value::String(found))) => path = Some(found),
                _ => {}
            }
        }
        return Cell::Bytes(path, bytes);
    }
    if let [(_, Cell::Bytes(..) | Cell::List(_))] = fields.as_slice() {
        // A group of one, between a list and its elements.
        return fields.into_iter().next().map_or(Cell::Value(Value::Null), |(_, cell)| cell);
    }
    let mut object = Map::new();
    for (name, cell) in fields {
        match cell {
            Cell::Value(value) => {
                object.insert(name, value);
            }
            Cell::Bytes(_, bytes) => {
                if let Ok(text) = String::from_utf8(bytes) {
                    object.insert(name, Value::String(text));
                }
            }
            Cell::List(_) => {}
        }
    }
    Cell::Value(Value::Object(object))
}

/// Elements without the group around each.
fn unwrapped(cell: Cell, name: &str) -> Cell {
    let Cell::Value(Value::Array(elements)) = cell else { return cell };
    let inner = |element| match element {
        Value::Object(mut fields) => fields.remove(name).unwrap_or(Value::Null),
        other => other,
    };
    Cell::Value(Value::Array(elements.into_iter().map(inner).collect()))
}
