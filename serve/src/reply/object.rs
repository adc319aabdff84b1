//! JSON objects that call tools, read as they come.

/// What was found in an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// The name of the tool.
    Name(String),
    /// More of the arguments, as they stand.
    Arguments(String),
    /// The object ended.
    End,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the object, or between two of them.
    Between,
    /// A key, or the end of the object, comes next.
    Key,
    /// The value of a key comes.
    Value,
}

/// Reads objects `{"name": ..., "arguments": {...}}`, one after the other. Lists around them, and what separates them, is
/// skipped. Arguments go by the name of parameters too.
#[derive(Debug)]
pub(super) struct Objects {
    place: Place,
    /// Brackets that are open within a value.
    depth: usize,
    in_text: bool,
    is_escaped: bool,
    key: String,
    value: String,
    /// The object has told its name.
    is_named: bool,
    /// Arguments that came before the name.
    early: String,
}

impl Objects {
    pub fn new() -> Self {
        Self {
            place: Place::Between,
            depth: 0,
            in_text: false,
            is_escaped: false,
            key: String::new(),
            value: String::new(),
            is_named: false,
            early: String::new(),
        }
    }

    /// Whether an object has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.place != Place::Between
    }

    /// Reads a character; false when it cannot stand there.
    pub fn push(&mut self, c: char, found: &mut Vec<Found>) -> bool {
        match self.place {
            Place::Between => match c {
                '{' => {
                    *self = Self { place: Place::Key, ..Self::new() };
                    true
                }
                _ => c.is_whitespace() || matches!(c, '[' | ']' | ',' | ';'),
            },
            Place::Key => self.key_character(c, found),
            Place::Value => self.value_character(c, found),
        }
    }

    fn key_character(&mut self, c: char, found: &mut Vec<Found>) -> bool {
        if self.in_text {
            match c {
                '"' if !self.is_escaped => self.in_text = false,
                _ => self.key.push(c),
            }
            self.is_escaped = c == '\\' && !self.is_escaped;
            return true;
        }
        match c {
            '"' if self.key.is_empty() => self.in_text = true,
            ':' if !self.key.is_empty() => {
                self.place = Place::Value;
                self.value.clear();
            }
            '}' if self.key.is_empty() => self.end(found),
            ',' if self.key.is_empty() => {}
            _ => return c.is_whitespace(),
        }
        true
    }

    fn value_character(&mut self, c: char, found: &mut Vec<Found>) -> bool {
        if self.in_text {
            self.take(c, found);
            match c {
                '"' if !self.is_escaped => self.in_text = false,
                _ => {}
            }
            self.is_escaped = c == '\\' && !self.is_escaped;
            return true;
        }
        match c {
            ',' | '}' if self.depth == 0 => {
                self.value_ended(found);
                self.key.clear();
                self.place = Place::Key;
                if c == '}' {
                    self.end(found);
                }
                return true;
            }
            '{' | '[' => self.depth += 1,
            '}' | ']' => match self.depth.checked_sub(1) {
                Some(depth) => self.depth = depth,
                None => return false,
            },
            '"' => self.in_text = true,
            // White space before a value is no part of it.
            _ if c.is_whitespace() && self.value.is_empty() => return true,
            _ => {}
        }
        self.take(c, found);
        true
    }

    fn is_arguments(&self) -> bool {
        matches!(self.key.as_str(), "arguments" | "parameters")
    }

    fn take(&mut self, c: char, found: &mut Vec<Found>) {
        if !self.is_arguments() {
            self.value.push(c);
        } else if self.is_named {
            // What was told need not be kept; that there is a value is known by one character.
            if self.value.is_empty() {
                self.value.push(c);
            }
            found.push(Found::Arguments(c.to_string()));
        } else {
            self.value.push(c);
            self.early.push(c);
        }
    }

    fn value_ended(&mut self, found: &mut Vec<Found>) {
        if self.key == "name"
            && !self.is_named
            && let Ok(name) = serde_json::from_str::<String>(self.value.trim())
        {
            self.is_named = true;
            found.push(Found::Name(name));
            if !self.early.is_empty() {
                found.push(Found::Arguments(std::mem::take(&mut self.early)));
            }
        }
    }

    fn end(&mut self, found: &mut Vec<Found>) {
        self.place = Place::Between;
        found.push(Found::End);
    }
}
