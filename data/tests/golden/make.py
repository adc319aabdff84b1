"""Makes the golden files of data/tests/it/formats with pyarrow, PIL and imagehash.

    python make.py

All of it is drawn from fixed seeds, so that the files come out alike, but for those that are encrypted, whose keys are new.
"""

import base64
import datetime
import decimal
import io
import json
import pathlib
import uuid

import imagehash
import numpy
import pyarrow
import pyarrow.parquet
import pyarrow.parquet.encryption as encryption
from PIL import Image

HERE = pathlib.Path(__file__).parent


def picture(seed, size=(48, 32)):
    random = numpy.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=numpy.uint8))
    return coarse.resize(size, Image.BICUBIC)


def encoded(seed, form="PNG", **options):
    out = io.BytesIO()
    picture(seed).save(out, form, **options)
    return out.getvalue()


def hugging_face():
    """Columns as Hugging Face writes them: an image struct, a list of them, turns, and what else there may be."""
    struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    part = pyarrow.struct([("type", pyarrow.string()), ("text", pyarrow.string())])
    turn = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.list_(part))])
    table = pyarrow.table(
        {
            "id": pyarrow.array(["a", "b", "c", None], pyarrow.string()),
            "image": pyarrow.array(
                [{"bytes": encoded(1), "path": "a.png"}, {"bytes": encoded(2, "JPEG"), "path": None}, None,
                 {"bytes": encoded(3), "path": None}], struct),
            "caption": pyarrow.array(["first", None, "thïrd", "fourth"], pyarrow.string()),
            "score": pyarrow.array([0.5, None, 7.25, -1.0], pyarrow.float64()),
            "tags": pyarrow.array([["x", "y"], [], None, ["z"]], pyarrow.list_(pyarrow.string())),
            "messages": pyarrow.array(
                [[{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": [{"type": "text", "text": "This."}]}], None, [], None],
                pyarrow.list_(turn)),
        }
    )
    pyarrow.parquet.write_table(table, HERE / "hugging-face.parquet", compression="snappy", row_group_size=3)
    images = pyarrow.table(
        {
            "images": pyarrow.array(
                [[{"bytes": encoded(4), "path": None}, {"bytes": encoded(5), "path": None}], [],
                 [{"bytes": encoded(6), "path": None}]], pyarrow.list_(struct)),
            "texts": pyarrow.array(
                [[{"user": "Which?", "assistant": "Both."}, {"user": "And?", "assistant": "No."}],
                 [{"user": "Nothing?", "assistant": "Nothing."}], [{"user": "One?", "assistant": "One."}]],
                pyarrow.list_(pyarrow.struct([("user", pyarrow.string()), ("assistant", pyarrow.string())]))),
        }
    )
    pyarrow.parquet.write_table(images, HERE / "cauldron.parquet", compression="zstd")
    # A column of strings of which one is not UTF-8, as careless writers make them.
    text = pyarrow.array([b"good", b"caf\xe9", b"also good"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), HERE / "latin1.parquet")


def hashes():
    """The perceptual hashes of pictures, by imagehash."""
    found = {}
    for seed in range(20, 32):
        name = f"hash{seed}.png"
        image = picture(seed, (40 + 5 * (seed % 4), 36 + 7 * (seed % 3)))
        noise = numpy.random.default_rng(seed + 100).integers(0, 20, (image.height, image.width, 3), dtype=numpy.uint8)
        image = Image.fromarray(numpy.asarray(image) // 2 + noise)
        image.save(HERE / name)
        found[name] = str(imagehash.phash(image))
    (HERE / "hashes.json").write_text(json.dumps(found, indent=1) + "\n")


def kinds():
    """Columns whose stored values stand for something else, and what pyarrow reads of them."""
    Decimal, day, moment, time = decimal.Decimal, datetime.date, datetime.datetime, datetime.time
    columns = {
        "price": pyarrow.array([Decimal("123.45"), Decimal("-0.01"), None, Decimal("0.00")], pyarrow.decimal128(10, 2)),
        "small": pyarrow.array([Decimal("1.5"), Decimal("-9.9"), None, Decimal("0.0")], pyarrow.decimal128(2, 1)),
        "whole": pyarrow.array([Decimal(7), Decimal(-7), None, Decimal(10**17)], pyarrow.decimal128(18, 0)),
        "wide": pyarrow.array([Decimal("12345678901234567890.123456789"), Decimal("-1"), None, Decimal("5e-9")], pyarrow.decimal128(38, 9)),
        "wider": pyarrow.array([Decimal(10**60), Decimal("-0.07"), None, Decimal(3)], pyarrow.decimal256(76, 2)),
        "us": pyarrow.array([moment(2023, 11, 14, 22, 13, 20, 123456), None, moment(1969, 12, 31, 23, 59, 59, 999000), moment(1, 1, 1)], pyarrow.timestamp("us")),
        "ms": pyarrow.array([1700000000123, -1, 0, None], pyarrow.timestamp("ms")),
        "ns": pyarrow.array([1700000000123456789, -1, 0, None], pyarrow.timestamp("ns", "UTC")),
        "day": pyarrow.array([day(2024, 2, 29), day(1900, 3, 1), None, day(9999, 12, 31)], pyarrow.date32()),
        "t32": pyarrow.array([time(1, 2, 3), None, time(23, 59, 59, 999000), time(0)], pyarrow.time32("ms")),
        "t64": pyarrow.array([time(1, 2, 3, 4), None, time(23, 59, 59, 999999), time(0)], pyarrow.time64("us")),
        "half": pyarrow.array([1.5, -2.25, None, 6.103515625e-05], pyarrow.float16()),
        "tiny": pyarrow.array([255, 0, None, 1], pyarrow.uint8()),
        "large": pyarrow.array([2**64 - 1, 0, None, 1], pyarrow.uint64()),
        "id": pyarrow.ExtensionArray.from_storage(
            pyarrow.uuid(), pyarrow.array([uuid.UUID(int=2**100 + i).bytes for i in range(4)], pyarrow.binary(16))),
    }
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, HERE / "kinds.parquet")
    old = pyarrow.table({"old": pyarrow.array([1700000000123456789, -1, 0, None], pyarrow.timestamp("ns"))})
    pyarrow.parquet.write_table(old, HERE / "int96.parquet", use_deprecated_int96_timestamps=True)

    def plain(value):
        if isinstance(value, Decimal):
            digits = len(str(value).lstrip("-").replace(".", "").lstrip("0"))
            exponent = value.as_tuple().exponent
            return int(value) if exponent == 0 else float(value) if digits <= 15 else f"{value:f}"
        return str(value) if isinstance(value, uuid.UUID) else value.isoformat()

    rows = [{k: v for k, v in row.items() if v is not None} for t in (table, old) for row in t.to_pylist()]
    (HERE / "kinds.json").write_text(json.dumps(rows, default=plain, indent=1) + "\n")


def odd():
    """No rows, two columns of one name, a packing that is not read, and columns that are encrypted."""
    write = pyarrow.parquet.write_table
    text = pyarrow.array(["a", "b"])
    write(pyarrow.table({"text": text.slice(0, 0)}), HERE / "no-rows.parquet")
    names = ["text", "image", "image", "text"]
    pictures = [pyarrow.array([encoded(at), None], pyarrow.binary()) for at in (7, 8)]
    write(pyarrow.Table.from_arrays([text, *pictures, text], names=names), HERE / "twice.parquet")
    write(pyarrow.table({"text": text}), HERE / "brotli.parquet", compression="brotli")

    class Keys(encryption.KmsClient):
        def wrap_key(self, key, master):
            return base64.b64encode(key)

        def unwrap_key(self, key, master):
            return base64.b64decode(key)

    factory = encryption.CryptoFactory(lambda _: Keys())
    for name, is_plain in [("encrypted", False), ("encrypted-columns", True)]:
        asked = encryption.EncryptionConfiguration("footer", column_keys={"key": ["text"]}, plaintext_footer=is_plain)
        properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), asked)
        table = pyarrow.table({"text": text})
        with pyarrow.parquet.ParquetWriter(
            HERE / f"{name}.parquet", table.schema, encryption_properties=properties
        ) as writer:
            writer.write_table(table)


hugging_face()
hashes()
kinds()
odd()
