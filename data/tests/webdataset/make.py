"""Writes the shards of this folder with Python's webdataset and tarfile, and those of sparse files with GNU tar: `python
make.py`, in this folder."""

import io
import pathlib
import subprocess
import tarfile
import tempfile

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

# A file with holes, of more parts than its header has room for or of two, and a whole one behind it.
for name, parts, form in [
    ("sparse-gnu.tar", 6, ["-H", "gnu"]),
    *((f"sparse-{v}.tar", 2, ["-H", "posix", f"--sparse-version={v}"]) for v in ["0.0", "0.1", "1.0"]),
]:
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/a.txt", "wb") as out:
            for part in range(parts):
                out.seek(part * 65536)
                out.write(b"part %d " % part * 512)
        pathlib.Path(f"{folder}/c.txt").write_text("after")
        options = ["--sparse", "-b1", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"]
        subprocess.run(["tar", *options, *form, "-cf", name, "-C", folder, "a.txt", "c.txt"], check=True)
