"""Makes the golden files of data/tests/it/formats with pyarrow, PIL and imagehash.

    python make.py

All of it is drawn from fixed seeds, so that the files come out alike.
"""

import io
import json
import pathlib

import imagehash
import numpy
import pyarrow
import pyarrow.parquet
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


hugging_face()
hashes()
