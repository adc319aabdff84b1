//! Options that plug-ins take.

/// The value of a plug-in's own option, such as `cpu_device_count` of the CPU plug-in.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Flag(bool),
}

/// The devices that run one program together, each on its own operands, by their ids.
pub(crate) struct Replicas(pub Vec<i32>);

impl Replicas {
    /// The `CompileOptionsProto` of XLA for these devices.
    ///
    /// Excess precision is off: a cast to a half type and back rounds, as the graph says.
    pub fn compile_options(&self) -> Vec<u8> {
        let mut assignment = Message::default();
        assignment.number(1, self.0.len() as u64);
        assignment.number(2, 1);
        let mut devices = Message::default();
        devices.packed(1, self.0.iter().map(|id| *id as u64));
        assignment.message(3, &devices);
        let mut build = Message::default();
        // No device ordinal (-1): the assignment says where.
        build.number(1, u64::MAX);
        build.number(4, self.0.len() as u64);
        build.number(5, 1);
        build.message(9, &assignment);
        let mut options = Message::default();
        options.message(3, &build);
        options.message(7, &switched_off("xla_allow_excess_precision"));
        options.0
    }
}

/// An entry of `env_option_overrides`: a flag of XLA's that is false.
fn switched_off(flag: &str) -> Message {
    let mut value = Message::default();
    value.number(2, 0);
    let mut entry = Message::default();
    entry.bytes(1, flag.as_bytes());
    entry.message(2, &value);
    entry
}

/// A message in the wire format of protocol buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    fn packed(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let mut list = Message::default();
        values.for_each(|v| list.varint(v));
        self.message(field, &list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_wire_format_has_them() {
        // The example of the format's documentation: field 1, value 150.
        let mut message = Message::default();
        message.number(1, 150);
        assert_eq!(message.0, [0x08, 0x96, 0x01]);
        let mut packed = Message::default();
        packed.packed(6, [3, 270, 86942].into_iter());
        assert_eq!(packed.0, [0x32, 0x06, 0x03, 0x8E, 0x02, 0x9E, 0xA7, 0x05]);
    }
}
