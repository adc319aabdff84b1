//! Lists of addresses in Parquet. Columns of bytes, such as images, are left out before anything is read of
//! them.

use std::path::Path;

use percept_data::format::{RowFault, ValueRows};

use super::error::Error;
use super::item::Item;
use super::list::{LONGEST_LINE, bad, needs_address, of_row};

/// Give each row of a list to `emit`, in order.
pub(super) fn read(
    path: &Path,
    name: &str,
    emit: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<(), Error> {
    let rows = ValueRows::open(path, LONGEST_LINE).map_err(|e| Error::list(name)(e.to_string()))?;
    needs_address(name, rows.names().iter().map(String::as_str))?;
    for (number, row) in (1..).zip(rows) {
        emit(match row {
            Ok(row) => of_row(name, number, row),
            Err(RowFault::TooLong) => bad(name, number, "the row is longer than a megabyte"),
            Err(RowFault::NotUtf8) => bad(name, number, "it is not UTF-8"),
            Err(RowFault::Lost(why)) => {
                return Err(Error::list(name)(format!("the Parquet file is damaged: {why}")));
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn write(path: &Path) {
        let schema = "message m { REQUIRED BYTE_ARRAY URL (UTF8); OPTIONAL BYTE_ARRAY TEXT (UTF8); \
            REQUIRED BYTE_ARRAY picture; REQUIRED INT64 width; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let bytes = |t: &str| ByteArray::from(t.as_bytes().to_vec());
        let urls = [bytes("http://a.example/1"), bytes("http://a.example/2")];
        let columns: [(&[ByteArray], Option<&[i16]>); 3] =
            [(&urls, None), (&[bytes("one")], Some(&[1, 0])), (&[bytes("\u{1}"), bytes("\u{2}")], None)];
        for (values, levels) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(values, levels, None).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[640, 480], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    fn items(path: &Path) -> Result<Vec<Item>, Error> {
        let mut items = Vec::new();
        read(path, "l.parquet", &mut |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }

    #[test]
    fn rows_have_addresses_captions_and_numbers_but_no_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.parquet");
        write(&path);
        let items = items(&path).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].url.as_str(), items[0].caption.as_deref()), ("http://a.example/1", Some("one")));
        assert_eq!(items[1].caption, None);
        assert_eq!(
            items[1].meta.iter().collect::<Vec<_>>(),
            [(&"width".to_owned(), &serde_json::Value::from(480))]
        );
    }

    /// A kilobyte of a megabyte's caption that three hundred rows share.
    #[test]
    fn a_bomb_makes_no_plan() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/published/pull_dict.parquet");
        let error = items(&path).unwrap_err().to_string();
        assert!(error.contains("its rows come to more than 1024 times"), "{error}");
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.parquet");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            std::fs::write(&path, &damaged).unwrap();
            // Rows or an error, but no panic.
            let _ = items(&path);
        }
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(items(&path).is_err());
    }
}
