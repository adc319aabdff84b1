//! Records put together from columns, by the levels that say how deep each entry is defined and where it repeats
//! (Melnik et al., Dremel, 2010).

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition};
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
    pub leaves: Range<usize>,
    children: Vec<Node>,
    is_list: bool,
}

impl Node {
    /// The fields of a schema's root that are kept, and the columns of the table that they have: their leaves are numbered
    /// among those alone.
    pub fn fields(root: &Type, keep: impl Fn(&Type) -> bool) -> (Vec<Node>, Vec<usize>) {
        let (mut fields, mut columns, mut column) = (Vec::new(), Vec::new(), 0);
        for field in root.get_fields() {
            let mut leaves = columns.len();
            let node = Node::new(field, 0, 0, &mut leaves);
            let width = node.leaves.len();
            if keep(field) {
                columns.extend(column..column + width);
                fields.push(node);
            }
            column += width;
        }
        (fields, columns)
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
        let is_list = (info.converted_type() == ConvertedType::LIST
            || info.logical_type_ref() == Some(&LogicalType::List))
            && matches!(children.as_slice(), [child] if child.is_repeated);
        let (name, leaves) = (field.name().to_owned(), first..*leaves);
        Self { name, is_optional, is_repeated, definition, repetition, leaves, children, is_list }
    }

    /// What the field holds in one record. `entries` are the record's entries in each leaf of this field.
    pub fn cell(&self, leaves: &[Leaf], entries: &[Range<usize>]) -> Option<Cell> {
        let defined = *leaves.get(self.leaves.start)?.definitions.get(entries.first()?.start)?;
        if !self.is_repeated {
            if self.is_optional && defined < self.definition {
                return Some(Cell::Value(Value::Null));
            }
            return self.one(leaves, entries);
        }
        if defined < self.definition {
            return Some(Cell::Value(Value::Array(Vec::new())));
        }
        // The entries of each element in each leaf of this field.
        let mut elements: Vec<Vec<Range<usize>>> = Vec::new();
        for (leaf, all) in self.leaves.clone().zip(entries) {
            let starts: Vec<usize> = all
                .clone()
                .filter(|at| *at == all.start || leaves[leaf].repetitions[*at] == self.repetition)
                .collect();
            // Leaves of one list have as many elements; those of a damaged one may lack some.
            elements.resize(elements.len().max(starts.len()), Vec::new());
            for (element, start) in starts.iter().enumerate() {
                let end = starts.get(element + 1).copied().unwrap_or(all.end);
                elements[element].push(*start..end);
            }
        }
        let whole = |element: &Vec<Range<usize>>| element.len() == self.leaves.len();
        if !elements.iter().all(whole) {
            return None;
        }
        let cells: Option<Vec<Cell>> = elements.iter().map(|entries| self.one(leaves, entries)).collect();
        cells.map(list)
    }

    /// The entries of a child's leaves among those of this field.
    fn of_child<'e>(&self, child: &Node, entries: &'e [Range<usize>]) -> Option<&'e [Range<usize>]> {
        entries.get(child.leaves.start - self.leaves.start..child.leaves.end - self.leaves.start)
    }

    /// A field that is there once.
    fn one(&self, leaves: &[Leaf], entries: &[Range<usize>]) -> Option<Cell> {
        if self.children.is_empty() {
            let leaf = self.leaves.start;
            return Some(leaves.get(leaf)?.cell(entries.first()?.start));
        }
        if self.is_list {
            let repeated = &self.children[0];
            let cell = repeated.cell(leaves, self.of_child(repeated, entries)?)?;
            // The group between a list and its elements says nothing. Under these names it is the element itself, as the
            // format's specification has it for older writers.
            let is_element = repeated.name == "array" || repeated.name == format!("{}_tuple", self.name);
            return Some(if repeated.children.len() == 1 && !is_element {
                unwrapped(cell, &repeated.children[0].name)
            } else {
                cell
            });
        }
        let mut fields = Vec::with_capacity(self.children.len());
        for child in &self.children {
            fields.push((child.name.clone(), child.cell(leaves, self.of_child(child, entries)?)?));
        }
        Some(group(fields))
    }
}

/// Elements as a value if all of them are values, and as a list of media otherwise.
fn list(cells: Vec<Cell>) -> Cell {
    if cells.iter().all(|cell| matches!(cell, Cell::Value(_))) {
        let value = |cell| match cell {
            Cell::Value(value) => value,
            Cell::Bytes(..) | Cell::List(_) | Cell::Struct(_) => Value::Null,
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
    if let [(_, Cell::Bytes(..) | Cell::List(_) | Cell::Struct(_))] = fields.as_slice() {
        // A group of one, between a list and its elements.
        return fields.into_iter().next().map_or(Cell::Value(Value::Null), |(_, cell)| cell);
    }
    // Bytes that are text are one; a struct that holds others is no JSON.
    let as_text = |(name, cell)| match cell {
        Cell::Bytes(path, bytes) => match String::from_utf8(bytes) {
            Ok(text) => (name, Cell::Value(Value::String(text))),
            Err(error) => (name, Cell::Bytes(path, error.into_bytes())),
        },
        cell => (name, cell),
    };
    let fields: Vec<(String, Cell)> = fields.into_iter().map(as_text).collect();
    if fields.iter().any(|(_, cell)| !matches!(cell, Cell::Value(_))) {
        return Cell::Struct(fields);
    }
    let value = |(name, cell)| match cell {
        Cell::Value(value) => Some((name, value)),
        _ => None,
    };
    Cell::Value(Value::Object(fields.into_iter().filter_map(value).collect::<Map<_, _>>()))
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
