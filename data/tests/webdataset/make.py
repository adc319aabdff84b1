"""Writes the shards of this folder with Python's webdataset and tarfile: `python make.py`, in this folder."""

import io
import tarfile

import webdataset

FIRST = {"png": b"\x89PNG", "txt": "Grüße".encode(), "json": b'{"licence": "CC0"}'}
SECOND = {f"{i}.jpg": bytes([i]) for i in range(3)}

with webdataset.TarWriter("webdataset.tar", encoder=False) as out:
    out.write({"__key__": "first", **FIRST})
    out.write({"__key__": "second", **SECOND})

FORMATS = {
    "pax.tar": tarfile.PAX_FORMAT,
    "gnu.tar": tarfile.GNU_FORMAT,
    "ustar.tar.gz": tarfile.USTAR_FORMAT,
}
for name, form in FORMATS.items():
    with tarfile.open(name, "w:gz" if name.endswith("gz") else "w", format=form) as out:
        folder = tarfile.TarInfo("folder" * 16)
        folder.type = tarfile.DIRTYPE
        out.addfile(folder)
        for key, files in ("folder" * 16 + "/first", FIRST), ("second", SECOND):
            for extension, data in files.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
