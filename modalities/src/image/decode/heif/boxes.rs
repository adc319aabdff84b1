//! The boxes of a HEIF file (ISO 23008-12): which images it holds, where their bytes are and which properties
//! they have.

use std::collections::BTreeMap;
use std::ops::Range;

/// The most boxes, items, properties or references of a list; no camera writes nearly as many.
const MOST: usize = 1 << 16;

/// A property of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Property {
    /// Width and height.
    Size(usize, usize),
    /// The decoder's configuration for HEVC, without which its data means nothing.
    Hevc(Vec<u8>),
    /// The matrix of the colours (ISO 23091-2), and whether they span their whole range.
    Colours { matrix: u16, full: bool },
    /// Quarter turns against the clock.
    Turn(u8),
    /// Exchange of left and right (1) or of top and bottom (0).
    Mirror(u8),
    /// The part of the image that is to be shown: width, height, and the distance of its middle from the
    /// image's to the right and down, each a fraction.
    Crop([(i32, i32); 4]),
    /// One that no pixel depends on.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) kind: [u8; 4],
    /// Whether the bytes lie in the `idat` box rather than in the file.
    inside: bool,
    /// Whether the bytes are made of other items in a way that is not understood here.
    strange: bool,
    extents: Vec<(usize, usize)>,
    properties: Vec<usize>,
}

/// The images of a file.
#[derive(Debug, Default)]
pub(super) struct Container {
    pub(super) primary: u32,
    pub(super) items: BTreeMap<u32, Item>,
    properties: Vec<Property>,
    /// Kind, from which item, to which items.
    references: Vec<([u8; 4], u32, Vec<u32>)>,
    idat: Range<usize>,
}

/// Bytes that are read from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// A number of `width` bytes; of none it is 0.
    fn number(&mut self, width: usize) -> Option<usize> {
        let bytes = self.take(width)?;
        usize::try_from(bytes.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte))).ok()
    }

    fn name(&mut self) -> Option<[u8; 4]> {
        self.take(4)?.first_chunk().copied()
    }

    /// The version and the flags of a full box.
    fn version(&mut self) -> Option<(usize, usize)> {
        Some((self.number(1)?, self.number(3)?))
    }

    /// The next box: its name and what it holds. One that is cut off ends the list.
    fn next_box(&mut self) -> Option<([u8; 4], Cursor<'a>)> {
        let before = self.0.len();
        let size = self.number(4)?;
        let name = self.name()?;
        let size = match size {
            0 => before,
            1 => self.number(8)?,
            size => size,
        };
        let head = before - self.0.len();
        Some((name, Cursor(self.take(size.checked_sub(head)?)?)))
    }
}

impl Container {
    /// `None` when the boxes are cut off or contradict each other.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut file = Cursor(bytes);
        for _ in 0..MOST {
            let (name, mut meta) = file.next_box()?;
            if &name == b"meta" {
                meta.version()?;
                return Self::of_meta(bytes, meta);
            }
        }
        None
    }

    fn of_meta(file: &[u8], mut meta: Cursor<'_>) -> Option<Self> {
        let mut this = Self::default();
        while let Some((name, mut inside)) = meta.next_box() {
            match &name {
                b"pitm" => {
                    let (version, _) = inside.version()?;
                    this.primary = inside.number(if version == 0 { 2 } else { 4 })? as u32;
                }
                b"iinf" => this.read_kinds(inside)?,
                b"iloc" => this.read_places(inside)?,
                b"iprp" => this.read_properties(inside)?,
                b"iref" => this.read_references(inside)?,
                b"idat" => {
                    let start = inside.0.as_ptr() as usize - file.as_ptr() as usize;
                    this.idat = start..start + inside.0.len();
                }
                _ => {}
            }
        }
        Some(this)
    }

    fn read_kinds(&mut self, mut list: Cursor<'_>) -> Option<()> {
        let (version, _) = list.version()?;
        list.number(if version == 0 { 2 } else { 4 })?;
        while let Some((name, mut entry)) = list.next_box() {
            let (version, _) = entry.version()?;
            if &name != b"infe" || version < 2 || self.items.len() > MOST {
                continue;
            }
            let id = entry.number(if version == 2 { 2 } else { 4 })? as u32;
            entry.number(2)?;
            self.items.entry(id).or_default().kind = entry.name()?;
        }
        Some(())
    }

    fn read_places(&mut self, mut list: Cursor<'_>) -> Option<()> {
        let (version, _) = list.version()?;
        let (sizes, more) = (list.number(1)?, list.number(1)?);
        let (offset, length, base, index) =
            (sizes >> 4, sizes & 15, more >> 4, if version == 0 { 0 } else { more & 15 });
        let wide = if version < 2 { 2 } else { 4 };
        for _ in 0..list.number(wide)?.min(MOST) {
            let id = list.number(wide)? as u32;
            let method = if version == 0 { 0 } else { list.number(2)? & 15 };
            let elsewhere = list.number(2)? != 0;
            let start = list.number(base)?;
            let item = self.items.entry(id).or_default();
            (item.inside, item.strange) = (method == 1, method > 1 || elsewhere);
            let count = list.number(2)?;
            // Extents that take no bytes here could be any number.
            if offset + length == 0 && count > 1 {
                return None;
            }
            for _ in 0..count {
                list.number(index)?;
                item.extents.push((start.checked_add(list.number(offset)?)?, list.number(length)?));
            }
        }
        Some(())
    }

    fn read_properties(&mut self, mut list: Cursor<'_>) -> Option<()> {
        while let Some((name, mut inside)) = list.next_box() {
            match &name {
                b"ipco" => {
                    while let Some((name, property)) = inside.next_box() {
                        self.properties.push(property_of(name, property).unwrap_or(Property::Other));
                    }
                }
                b"ipma" => {
                    let (version, flags) = inside.version()?;
                    for _ in 0..inside.number(4)?.min(MOST) {
                        let id = inside.number(if version == 0 { 2 } else { 4 })? as u32;
                        for _ in 0..inside.number(1)? {
                            // The highest bit says that readers must understand it.
                            let index = if flags & 1 > 0 {
                                inside.number(2)? & 0x7fff
                            } else {
                                inside.number(1)? & 0x7f
                            };
                            if let (Some(item), Some(index)) = (self.items.get_mut(&id), index.checked_sub(1))
                            {
                                item.properties.push(index);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn read_references(&mut self, mut list: Cursor<'_>) -> Option<()> {
        let (version, _) = list.version()?;
        let wide = if version == 0 { 2 } else { 4 };
        while let Some((name, mut inside)) = list.next_box() {
            let from = inside.number(wide)? as u32;
            let count = inside.number(2)?;
            let to = (0..count).map(|_| Some(inside.number(wide)? as u32)).collect::<Option<Vec<_>>>()?;
            if self.references.len() < MOST {
                self.references.push((name, from, to));
            }
        }
        Some(())
    }

    /// The items that an item refers to in one way.
    pub(super) fn references(&self, kind: &[u8; 4], from: u32) -> &[u32] {
        self.references
            .iter()
            .find(|(k, f, _)| k == kind && *f == from)
            .map_or(&[], |(_, _, to)| to.as_slice())
    }

    /// What is said of an item, in order.
    pub(super) fn properties<'c>(&'c self, item: &'c Item) -> impl Iterator<Item = &'c Property> {
        item.properties.iter().filter_map(|index| self.properties.get(*index))
    }

    /// An item's bytes; `None` when they lie outside the file.
    pub(super) fn data(&self, file: &[u8], item: &Item) -> Option<Vec<u8>> {
        if item.strange {
            return None;
        }
        let whole = if item.inside { file.get(self.idat.clone())? } else { file };
        let mut data = Vec::new();
        for &(start, length) in &item.extents {
            // A length of 0 means the rest.
            let end = if length == 0 { whole.len() } else { start.checked_add(length)? };
            let part = whole.get(start..end)?;
            // Extents that overlap would make more of the file than it is.
            if data.len() + part.len() > whole.len() {
                return None;
            }
            data.extend_from_slice(part);
        }
        Some(data)
    }
}

fn property_of(name: [u8; 4], mut inside: Cursor<'_>) -> Option<Property> {
    Some(match &name {
        b"ispe" => {
            inside.version()?;
            Property::Size(inside.number(4)?, inside.number(4)?)
        }
        b"hvcC" => Property::Hevc(inside.0.to_vec()),
        b"colr" if &inside.name()? == b"nclx" => {
            inside.number(4)?;
            Property::Colours { matrix: inside.number(2)? as u16, full: inside.number(1)? & 0x80 > 0 }
        }
        b"irot" => Property::Turn((inside.number(1)? & 3) as u8),
        b"imir" => Property::Mirror((inside.number(1)? & 1) as u8),
        b"clap" => {
            let mut part = [(0, 0); 4];
            for fraction in &mut part {
                *fraction = (inside.number(4)? as u32 as i32, inside.number(4)? as u32 as i32);
            }
            Property::Crop(part)
        }
        _ => Property::Other,
    })
}

/// The parameter sets of a decoder's configuration and the length of the lengths that come before the units
/// of its data (ISO 14496-15, 8.3.3).
pub(super) fn hevc_parameters(configuration: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut rest = Cursor(configuration);
    let width = (usize::from(*rest.take(22)?.get(21)?) & 3) + 1;
    let mut units = Vec::new();
    for _ in 0..rest.number(1)? {
        rest.number(1)?;
        for _ in 0..rest.number(2)? {
            let length = rest.number(2)?;
            units.push(rest.take(length)?);
        }
    }
    Some((units, width))
}

/// The units of an image's data, each after its length.
pub(super) fn hevc_units(data: &[u8], width: usize) -> Option<Vec<&[u8]>> {
    let (mut rest, mut units) = (Cursor(data), Vec::new());
    while !rest.0.is_empty() {
        let length = rest.number(width)?;
        units.push(rest.take(length)?);
    }
    Some(units)
}

/// The rows, columns, width and height of an image that is put together from others (ISO 23008-12, 6.6.2.3).
pub(super) fn grid(data: &[u8]) -> Option<(usize, usize, usize, usize)> {
    let mut rest = Cursor(data);
    rest.number(1)?;
    let wide = if rest.number(1)? & 1 > 0 { 4 } else { 2 };
    Some((rest.number(1)? + 1, rest.number(1)? + 1, rest.number(wide)?, rest.number(wide)?))
}
