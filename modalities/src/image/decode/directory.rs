//! The first directory of a TIFF file, which is also how EXIF is written.

/// Numbers that are read of one field; no field that is requested has as many.
const MOST: usize = 1 << 16;

/// A directory of fields in untrusted bytes.
#[derive(Clone, Copy)]
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    /// The least significant byte of a number comes first.
    pub(super) little: bool,
    /// A BigTIFF, whose offsets have 64 bits.
    big: bool,
    entries: usize,
    count: usize,
}

/// One field: how its numbers are stored, how many there are and where they begin.
#[derive(Clone, Copy)]
struct Field {
    width: usize,
    count: usize,
    at: usize,
}

impl<'a> Directory<'a> {
    /// The first directory; `None` when the header is none or is cut off.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let mut this = Self { bytes, little, big: false, entries: 0, count: 0 };
        this.big = match this.number(2, 2)? {
            42 => false,
            43 => true,
            _ => return None,
        };
        let (at, width) = if this.big { (this.number(8, 8)?, 8) } else { (this.number(4, 4)?, 2) };
        this.count = this.number(at, width)?;
        this.entries = at.checked_add(width)?;
        Some(this)
    }

    /// An unsigned number of up to eight bytes.
    fn number(&self, at: usize, width: usize) -> Option<usize> {
        let field = self.bytes.get(at..at.checked_add(width)?)?;
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        let value = if self.little { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) };
        usize::try_from(value).ok()
    }

    fn field(&self, tag: u16) -> Option<Field> {
        let (length, wide) = if self.big { (20, 8) } else { (12, 4) };
        let mut at = self.entries;
        for _ in 0..self.count {
            self.bytes.get(at..at.checked_add(length)?)?;
            if self.number(at, 2)? == usize::from(tag) {
                let width = match self.number(at + 2, 2)? {
                    1 | 2 | 6 | 7 => 1,
                    3 | 8 => 2,
                    4 | 9 | 11 | 13 => 4,
                    5 | 10 | 12 | 16 | 17 | 18 => 8,
                    _ => return None,
                };
                let count = self.number(at + 4, wide)?;
                let inside = count.checked_mul(width)? <= wide;
                let value = at + 4 + wide;
                let at = if inside { value } else { self.number(value, wide)? };
                return Some(Field { width, count, at });
            }
            at += length;
        }
        None
    }

    /// A field's numbers, unsigned; empty when it is missing or cut off.
    pub(super) fn numbers(&self, tag: u16) -> Vec<usize> {
        let Some(Field { width, count, at }) = self.field(tag) else { return Vec::new() };
        (0..count.min(MOST)).map_while(|i| self.number(at.checked_add(i * width)?, width)).collect()
    }

    /// A field's first number.
    pub(super) fn first_of(&self, tag: u16) -> Option<usize> {
        let Field { width, at, .. } = self.field(tag)?;
        self.number(at, width)
    }

    /// A field's bytes.
    pub(super) fn data(&self, tag: u16) -> Option<&'a [u8]> {
        let Field { width, count, at } = self.field(tag)?;
        self.bytes.get(at..at.checked_add(count.checked_mul(width)?)?)
    }

    /// Where a field of one short number has it.
    pub(super) fn place(&self, tag: u16) -> Option<usize> {
        self.field(tag).filter(|field| field.width == 2 && field.count == 1).map(|field| field.at)
    }
}
