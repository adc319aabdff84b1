//! Lists of addresses in Parquet. Columns of bytes, such as pictures, are left out before anything is read of them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::Value;

use super::error::Error;
use super::item::Item;
use super::list::{needs_address, of_row};
use super::status::Outcome;

/// Give each row of a list to `emit`, in order.
pub(super) fn read(
    path: &Path,
    name: &str,
    emit: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<(), Error> {
    let fault = |e: parquet::errors::ParquetError| Error::list(name)(e.to_string());
    let file = File::open(path).map_err(|e| Error::list(name)(e.to_string()))?;
    let reader = guarded(name, || SerializedFileReader::new(file).map_err(fault))??;
    let schema =
        guarded(name, || texts_and_numbers(reader.metadata().file_metadata().schema()).map_err(fault))??;
    needs_address(name, schema.get_fields().iter().map(|field| field.name()))?;
    let mut rows: RowIter<'_> = guarded(name, || reader.get_row_iter(Some(schema)).map_err(fault))??;
    let mut number = 0;
    loop {
        let row: Option<Row> = guarded(name, || rows.next().transpose().map_err(fault))??;
        let Some(row) = row else { return Ok(()) };
        number += 1;
        emit(match guarded(name, || row.to_json_value())? {
            Value::Object(row) => of_row(name, number, row),
            _ => Item::bad(format!("{name}:{number}"), Outcome::Invalid, "it is not a row"),
        })?;
    }
}

/// The schema without columns of plain bytes.
fn texts_and_numbers(schema: &Type) -> parquet::errors::Result<Type> {
    let fields = schema.get_fields().iter().filter(|field| !has_bytes(field)).cloned().collect();
    Type::group_type_builder(schema.name()).with_fields(fields).build()
}

fn has_bytes(field: &Arc<Type>) -> bool {
    if field.is_group() {
        return field.get_fields().iter().any(has_bytes);
    }
    let info = field.get_basic_info();
    let text =
        matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Json | LogicalType::Enum))
            || matches!(
                info.converted_type(),
                parquet::basic::ConvertedType::UTF8
                    | parquet::basic::ConvertedType::JSON
                    | parquet::basic::ConvertedType::ENUM
            );
    field.get_physical_type() == Physical::BYTE_ARRAY && !text
}

/// The reader means to return errors, but a damaged file can still make it panic.
fn guarded<T>(name: &str, read: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| Error::list(name)("the Parquet file is damaged".into()))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(items[1].meta.iter().collect::<Vec<_>>(), [(&"width".to_owned(), &Value::from(480))]);
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
