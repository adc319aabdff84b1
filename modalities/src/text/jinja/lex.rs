//! The pieces of a template's text: Jinja's lexer with `trim_blocks` and `lstrip_blocks`.

use super::fault::{Class, Fault, Result, fault};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Data(String),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) piece: Piece,
    pub(super) line: u32,
}

/// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// Python's white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

pub(super) fn syntax(message: impl Into<String>, line: u32) -> Box<Fault> {
    let mut fault = fault(Class::TemplateSyntax, message);
    fault.line = Some(line);
    fault
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Whether what was read last ends a line.
    line_starting: bool,
    tokens: Vec<Token>,
}

/// All tokens of a template, the last one `End`.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, line_starting: true, tokens: Vec::new() };
    lexer.root()?;
    lexer.push(Piece::End);
    Ok(lexer.tokens)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn push(&mut self, piece: Piece) {
        self.tokens.push(Token { piece, line: self.line });
    }

    /// Steps over bytes of one rule's match.
    fn advance(&mut self, bytes: usize) -> &'s str {
        let taken = &self.source[self.at..self.at + bytes];
        self.line += taken.bytes().filter(|&b| b == b'\n').count() as u32;
        self.at += bytes;
        if bytes > 0 {
            self.line_starting = taken.ends_with('\n');
        }
        taken
    }

    fn spaces(&self, from: usize) -> usize {
        let rest = &self.rest()[from..];
        rest.len() - rest.trim_start_matches(is_space).len()
    }

    fn root(&mut self) -> Result<()> {
        loop {
            let rest = self.rest();
            let open = rest.match_indices('{').map(|(at, _)| at);
            let open =
                open.into_iter().find(|&at| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
            let Some(open) = open else {
                if !rest.is_empty() {
                    self.push(Piece::Data(rest.to_owned()));
                    self.advance(rest.len());
                }
                return Ok(());
            };
            let sign = rest[open + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            let kind = rest.as_bytes()[open + 1];
            self.data(&rest[..open], sign, kind == b'{');
            self.advance(open);
            let head = 2 + sign.map_or(0, char::len_utf8);
            match kind {
                b'{' => {
                    self.push(Piece::PrintBegin);
                    self.advance(head);
                    self.inside(false)?;
                }
                b'#' => {
                    self.advance(head);
                    self.comment()?;
                }
                _ => match self.raw_head(head) {
                    Some(length) => {
                        self.advance(length);
                        self.raw()?;
                    }
                    None => {
                        self.push(Piece::BlockBegin);
                        self.advance(head);
                        self.inside(true)?;
                    }
                },
            }
        }
    }

    /// The text before a tag, stripped as the tag's sign and `lstrip_blocks` say.
    fn data(&mut self, text: &str, sign: Option<char>, prints: bool) {
        let mut kept = text;
        if sign == Some('-') {
            kept = text.trim_end_matches(is_space);
        } else if sign.is_none() && !prints {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            if (line > 0 || self.line_starting) && text[line..].chars().all(is_space) {
                kept = &text[..line];
            }
        }
        if !kept.is_empty() {
            self.push(Piece::Data(kept.to_owned()));
        }
    }

    /// The length of `{% raw %}` at this place.
    fn raw_head(&self, head: usize) -> Option<usize> {
        let mut at = head + self.spaces(head);
        self.rest()[at..].starts_with("raw").then_some(())?;
        at += 3;
        at += self.spaces(at);
        if self.rest()[at..].starts_with("-%}") {
            at += 3;
            return Some(at + self.spaces(at));
        }
        self.rest()[at..].starts_with("%}").then_some(at + 2)
    }

    fn raw(&mut self) -> Result<()> {
        let rest = self.rest();
        for (open, _) in rest.match_indices("{%") {
            let sign = rest[open + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            let mut at = open + 2 + sign.map_or(0, char::len_utf8);
            at += self.spaces(at);
            if !rest[at..].starts_with("endraw") {
                continue;
            }
            at += 6;
            at += self.spaces(at);
            let Some(end) = self.block_end(at) else { continue };
            self.data(&rest[..open], sign, false);
            self.advance(end);
            return Ok(());
        }
        Err(syntax("Missing end of raw directive", self.line))
    }

    fn comment(&mut self) -> Result<()> {
        let rest = self.rest();
        let close = rest.find("#}").ok_or_else(|| syntax("Missing end of comment tag", self.line))?;
        let mut end = close + 2;
        match close.checked_sub(1).map(|before| rest.as_bytes()[before]) {
            Some(b'-') => end += self.spaces(end),
            Some(b'+') => {}
            _ => end += rest[end..].starts_with('\n') as usize,
        }
        self.advance(end);
        Ok(())
    }

    /// Where a block's end that begins at `from` ends.
    fn block_end(&self, from: usize) -> Option<usize> {
        let rest = &self.rest()[from..];
        if rest.starts_with("+%}") {
            return Some(from + 3);
        }
        if rest.starts_with("-%}") {
            return Some(from + 3 + self.spaces(from + 3));
        }
        rest.starts_with("%}").then(|| from + 2 + rest[2..].starts_with('\n') as usize)
    }

    fn print_end(&self) -> Option<usize> {
        let rest = self.rest();
        if rest.starts_with("-}}") {
            return Some(3 + self.spaces(3));
        }
        rest.starts_with("}}").then_some(2)
    }

    /// What stands in a tag, up to and with its end.
    fn inside(&mut self, block: bool) -> Result<()> {
        let mut open: Vec<char> = Vec::new();
        loop {
            let end = if !open.is_empty() {
                None
            } else if block {
                self.block_end(0)
            } else {
                self.print_end()
            };
            if let Some(end) = end {
                self.push(if block { Piece::BlockEnd } else { Piece::PrintEnd });
                self.advance(end);
                return Ok(());
            }
            let spaces = self.spaces(0);
            if spaces > 0 {
                self.advance(spaces);
                continue;
            }
            let rest = self.rest();
            let Some(c) = rest.chars().next() else { return Ok(()) };
            if let Some(length) = self.float() {
                let digits = rest[..length].replace('_', "");
                let value = digits.parse().map_err(|_| syntax(format!("bad number {digits}"), self.line))?;
                self.push(Piece::Float(value));
                self.advance(length);
            } else if c.is_ascii_digit() {
                self.integer()?;
            } else if c == '_' || c.is_alphanumeric() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                if c.is_numeric() {
                    return Err(syntax("Invalid character in identifier", self.line));
                }
                self.push(Piece::Name(rest[..length].to_owned()));
                self.advance(length);
            } else if let Some(length) = string_length(rest) {
                let text = unescape(&rest[1..length - 1]).map_err(|why| syntax(why, self.line))?;
                self.push(Piece::Str(text));
                self.advance(length);
            } else if let Some(operator) = OPERATORS.into_iter().find(|o| rest.starts_with(o)) {
                self.balance(operator, &mut open)?;
                self.push(Piece::Op(operator));
                self.advance(operator.len());
            } else {
                return Err(syntax(format!("unexpected char '{c}' at {}", self.at), self.line));
            }
        }
    }

    fn balance(&self, operator: &str, open: &mut Vec<char>) -> Result<()> {
        match operator {
            "{" => open.push('}'),
            "(" => open.push(')'),
            "[" => open.push(']'),
            "}" | ")" | "]" => match open.pop() {
                Some(expected) if operator.starts_with(expected) => {}
                Some(expected) => {
                    return Err(syntax(format!("unexpected '{operator}', expected '{expected}'"), self.line));
                }
                None => return Err(syntax(format!("unexpected '{operator}'"), self.line)),
            },
            _ => {}
        }
        Ok(())
    }

    /// The length of a float here: digits with a fraction, an exponent or both, and no dot before them.
    fn float(&self) -> Option<usize> {
        if self.source[..self.at].ends_with('.') {
            return None;
        }
        let rest = self.rest();
        let whole = digits(rest)?;
        let fraction = rest[whole..].strip_prefix('.').and_then(digits).map_or(0, |n| n + 1);
        let after = whole + fraction;
        let exponent = rest[after..].strip_prefix(['e', 'E']).and_then(|rest| {
            let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            Some(1 + rest.len() - unsigned.len() + digits(unsigned)?)
        });
        match (fraction, exponent) {
            (0, None) => None,
            (_, exponent) => Some(after + exponent.unwrap_or(0)),
        }
    }

    fn integer(&mut self) -> Result<()> {
        let rest = self.rest();
        let lower = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        let radix = match lower.as_str() {
            "0b" => 2,
            "0o" => 8,
            "0x" => 16,
            _ => 10,
        };
        let run = |from: usize, allowed: &dyn Fn(u8) -> bool| {
            // Each digit may have one underscore before it.
            let bytes = rest.as_bytes();
            let mut at = from;
            loop {
                let skip = (bytes.get(at) == Some(&b'_')) as usize;
                match bytes.get(at + skip) {
                    Some(&b) if allowed(b) => at += skip + 1,
                    _ => return at,
                }
            }
        };
        let prefixed = if radix == 10 { 0 } else { run(2, &|b| (b as char).is_digit(radix)) };
        let (text, radix, length) = if prefixed > 2 {
            (&rest[2..prefixed], radix, prefixed)
        } else if rest.starts_with('0') {
            let length = run(1, &|b| b == b'0');
            (&rest[..length], 10, length)
        } else {
            let length = run(1, &|b| b.is_ascii_digit());
            (&rest[..length], 10, length)
        };
        let value = i128::from_str_radix(&text.replace('_', ""), radix)
            .map_err(|_| syntax(format!("the integer {text} has more than 127 bits"), self.line))?;
        self.push(Piece::Int(value));
        self.advance(length);
        Ok(())
    }
}

/// The length of digits that single underscores may part.
fn digits(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = bytes.first()?.is_ascii_digit().then_some(1)?;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b), _) if b.is_ascii_digit() => at += 1,
            (Some(b'_'), Some(b)) if b.is_ascii_digit() => at += 2,
            _ => return Some(at),
        }
    }
}

/// The length of a quoted string at the start of a text, if it ends.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Python's `unicode-escape`. What is not ASCII is an escape itself there, which shows behind a backslash.
fn unescape(text: &str) -> std::result::Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c as u32 {
            0..0x80 => ascii.push(c),
            0x80..0x100 => ascii += &format!("\\x{:02x}", c as u32),
            0x100..0x10000 => ascii += &format!("\\u{:04x}", c as u32),
            _ => ascii += &format!("\\U{:08x}", c as u32),
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = ascii.as_str();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { return Err("\\ at end of string".into()) };
        rest = &rest[1..];
        let fixed = match c {
            '\n' => continue,
            '\\' | '\'' | '"' => Some(c),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            _ => None,
        };
        if let Some(c) = fixed {
            out.push(c);
            continue;
        }
        let (length, radix) = match c {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => {
                rest = &ascii[ascii.len() - rest.len() - 1..];
                (rest.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count(), 8)
            }
            'N' => return Err("characters by name (\\N{...}) are not supported".into()),
            other => {
                out.extend(['\\', other]);
                continue;
            }
        };
        let number = rest.get(..length).filter(|n| n.bytes().all(|b| (b as char).is_digit(radix)));
        let number = number.and_then(|n| u32::from_str_radix(n, radix).ok()).ok_or("truncated escape")?;
        out.push(char::from_u32(number).ok_or("an escape that is no character")?);
        rest = &rest[length..];
    }
    Ok(out + rest)
}
