"""Small files of every format and kind of pixel, and what PIL reads from them: run to renew ../fixtures/decode*.

Needs pillow 13 with pillow_heif, numpy, safetensors and transformers 5.24, whose `load_image` it is that a path or an
address in a conversation goes through: it drops alpha before any processor sees the picture. The processors'
`convert_to_rgb` then shows what PIL notes as the one transparent colour of a file in white. Files that PIL does not write are put together here byte by byte.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image
from safetensors.numpy import save_file
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image

warnings.simplefilter("ignore")
here = Path(__file__).parent / "../fixtures"
files = {}
rng = np.random.default_rng(11)
W, H = 23, 17
y, x = np.mgrid[0:H, 0:W]
smooth = np.stack([x * 11, y * 15, (x * y) % 256], -1).astype(np.uint8)
rgb = ((smooth.astype(int) + rng.integers(0, 40, smooth.shape)) % 256).astype(np.uint8)
gray = rgb[..., 0]
alpha = ((x * 23 + y * 5) % 256).astype(np.uint8)
rgba = np.dstack([rgb, alpha])
RGB, L, RGBA = Image.fromarray(rgb), Image.fromarray(gray), Image.fromarray(rgba)
LA = Image.fromarray(np.dstack([gray, alpha]), "LA")
P = RGB.quantize(40)
ONE = Image.fromarray(gray > 128)
I16 = Image.fromarray((gray.astype(np.uint16) * 3))
CMYK = Image.fromarray(np.dstack([rgb, 255 - gray]), "CMYK")


def save(name, image, **options):
    data = io.BytesIO()
    image.save(data, **options)
    files[name] = data.getvalue()


# JPEG: subsampling, progressive, restarts, gray, Adobe's inks, RGB inside, EXIF orientations.
for sampling in [0, 1, 2]:
    for progressive in [False, True]:
        kind = "progressive" if progressive else "baseline"
        save(f"{kind}{sampling}.jpg", RGB, format="JPEG", quality=85, subsampling=sampling, progressive=progressive)
save("restart.jpg", RGB, format="JPEG", restart_marker_blocks=1)
save("gray.jpg", L, format="JPEG")
save("cmyk.jpg", CMYK, format="JPEG")
save("inside_rgb.jpg", RGB, format="JPEG", keep_rgb=True)
for orientation in range(1, 10):
    exif = Image.Exif()
    exif[274] = orientation
    save(f"orientation{orientation}.jpg", RGB.resize((12, 7)), format="JPEG", exif=exif)
# YCCK: Adobe's transform 2 over the CMYK file's own inks.
ycck = bytearray(files["cmyk.jpg"])
at = ycck.find(b"Adobe")
ycck[at + 11] = 2
files["ycck.jpg"] = bytes(ycck)
# Bytes between the parts, which decoders skip with a warning.
jpeg = files["baseline2.jpg"]
files["extraneous.jpg"] = jpeg[:-2] + b"\x11\x22\x33" + jpeg[-2:]

# PNG.
exif = Image.Exif()
exif[274] = 6
save("rgb.png", RGB, format="PNG", exif=exif)
for name, image in {"rgba": RGBA, "gray": L, "graya": LA, "palette": P, "one": ONE, "gray16": I16}.items():
    save(f"{name}.png", image, format="PNG")
save("palette_transparent.png", P, format="PNG", transparency=3)
save("palette_alphas.png", P, format="PNG", transparency=bytes(range(0, 200, 5)))
save("rgb_transparent.png", RGB, format="PNG", transparency=(10, 20, 30))
save("gray_transparent.png", L, format="PNG", transparency=40)
for bits in [1, 2, 4]:
    save(f"palette{bits}.png", RGB.quantize(2**bits), format="PNG", bits=bits)


def png(width, height, depth, colour, rows, interlace=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rows(samples):
    samples = samples.astype(">u2").reshape(H, -1)
    return b"".join(b"\0" + row.tobytes() for row in samples)


wide = rng.integers(0, 65536, (H, W, 4))
for colour, channels in [(0, 1), (2, 3), (4, 2), (6, 4)]:
    files[f"deep{colour}.png"] = png(W, H, 16, colour, rows(wide[..., :channels]))
nibbles = rng.integers(0, 256, (H, (W + 1) // 2), dtype=np.uint8)
files["gray4.png"] = png(W, H, 4, 0, b"".join(b"\0" + r.tobytes() for r in nibbles))
pairs = rng.integers(0, 256, (H, (W + 3) // 4), dtype=np.uint8)
files["gray2.png"] = png(W, H, 2, 0, b"".join(b"\0" + r.tobytes() for r in pairs))


def with_clear(data, *values):
    """The file with one transparent colour, of values of 16 bits."""
    clear = struct.pack(f">{len(values)}H", *values)
    chunk = struct.pack(">I", len(clear)) + b"tRNS" + clear + struct.pack(">I", zlib.crc32(b"tRNS" + clear))
    return data[:33] + chunk + data[33:]


files["rgb_clear.png"] = with_clear(files["rgb.png"], *map(int, rgb[3, 4]))
files["gray_clear.png"] = with_clear(files["gray.png"], int(gray[3, 4]))
files["gray4_clear.png"] = with_clear(files["gray4.png"], 0)
files["gray2_clear.png"] = with_clear(files["gray2.png"], 3)
files["one_clear.png"] = with_clear(files["one.png"], 1)
files["gray16_clear.png"] = with_clear(files["gray16.png"], int(gray[3, 4]) * 3)
files["deep2_clear.png"] = with_clear(files["deep2.png"], *(int(v) for v in wide[3, 4, :3]))
files["deep2_clear_low.png"] = with_clear(files["deep2.png"], *(int(v) >> 8 for v in wide[3, 4, :3]))

# GIF.
save("palette.gif", P, format="GIF")
save("transparent.gif", P, format="GIF", transparency=5)
save("gray.gif", L, format="GIF")
save("interlaced.gif", P, format="GIF", interlace=1)
save("animated.gif", P, format="GIF", save_all=True, append_images=[P.transpose(Image.Transpose.ROTATE_180)])
small = bytearray(files["transparent.gif"])
struct.pack_into("<HH", small, 6, W + 6, H + 4)
files["small_frame.gif"] = bytes(small)

# WebP.
save("lossy.webp", RGB, format="WEBP", quality=80)
save("lossless.webp", RGB, format="WEBP", lossless=True)
save("lossy_alpha.webp", RGBA, format="WEBP", quality=80)
save("lossless_alpha.webp", RGBA, format="WEBP", lossless=True, exact=True)
save("animated.webp", RGB, format="WEBP", save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_180)], lossless=True)
save("orientation.webp", RGB, format="WEBP", lossless=True, exif=exif)

# TIFF.
for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
    save(f"rgb_{compression}.tiff", RGB, format="TIFF", compression=compression)
for name, image in {
    "rgba": RGBA, "gray": L, "graya": LA, "palette": P, "one": ONE, "gray16": I16, "cmyk": CMYK
}.items():
    save(f"{name}.tiff", image, format="TIFF")
save("jpeg.tiff", RGB, format="TIFF", compression="jpeg", quality=90)
for bits, name in [(1, "palette1"), (4, "palette4")]:
    # PIL writes 8-bit palettes only: the same directory with narrower indices.
    indices = rng.integers(0, 2**bits, (H, W))
    packed = b"".join(
        bytes(int("".join(f"{v:0{bits}b}" for v in row).ljust(-(-W * bits // 8) * 8, "0")[i : i + 8], 2)
              for i in range(0, -(-W * bits // 8) * 8, 8))
        for row in indices
    )
    colours = rng.integers(0, 65536, 3 * 2**bits).astype("<u2").tobytes()
    entries = [(256, 3, 1, W), (257, 3, 1, H), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 3), (273, 4, 1, 0),
               (277, 3, 1, 1), (278, 3, 1, H), (279, 4, 1, len(packed)), (320, 3, 3 * 2**bits, 0)]
    start = 8 + 2 + 12 * len(entries) + 4
    place = {273: start, 320: start + len(packed) + len(packed) % 2}
    directory = b"".join(
        struct.pack("<HHII", tag, kind, count, place.get(tag, value)) for tag, kind, count, value in entries
    )
    files[f"{name}.tiff"] = (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + packed + bytes(len(packed) % 2) + colours
    )
save("group4.tiff", ONE, format="TIFF", compression="group4")
save("orientation.tiff", RGB, format="TIFF", tiffinfo={274: 8})

# The rest that PIL writes.
for name, image in {"rgb": RGB, "rgba": RGBA, "gray": L, "palette": P, "one": ONE}.items():
    save(f"{name}.bmp", image, format="BMP")
for name, image in {"rgb": RGB, "rgba": RGBA, "gray": L, "graya": LA, "palette": P}.items():
    save(f"{name}.tga", image, format="TGA")
save("rle.tga", RGB, format="TGA", compression="tga_rle")
for name, image in {"rgb": RGB, "gray": L, "one": ONE, "gray16": I16}.items():
    save(f"{name}.pnm", image, format="PPM")
files["odd_maximum.ppm"] = b"P6\n%d %d\n100\n" % (W, H) + (rgb % 101).tobytes()
files["wide.ppm"] = b"P6\n%d %d\n65535\n" % (W, H) + wide[..., :3].astype(">u2").tobytes()
files["text.pgm"] = b"P2\n# comment\n3 2\n7\n0 1 2\n3 6 7\n"
save("rgb.ico", RGB.resize((16, 16)), format="ICO", sizes=[(16, 16)])
save("sizes.ico", RGBA.resize((32, 32)), format="ICO", sizes=[(16, 16), (32, 32), (24, 24)])
save("bmp.ico", RGBA.resize((16, 16)), format="ICO", sizes=[(16, 16)], bitmap_format="bmp")
save("rgb.qoi", RGB, format="QOI")
save("rgba.qoi", RGBA, format="QOI")
save("dxt1.dds", RGBA.resize((16, 16)), format="DDS", pixel_format="DXT1")
save("dxt5.dds", RGBA.resize((16, 16)), format="DDS", pixel_format="DXT5")
# 16-bit bitmap, five bits a channel.
five = rng.integers(0, 1 << 15, (H, W + 1)).astype("<u2")
five_rows = five[:, :W].tobytes() if W % 2 == 0 else np.ascontiguousarray(five).tobytes()
head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 16, 0, len(five_rows), 0, 0, 0, 0)
files["five.bmp"] = b"BM" + struct.pack("<IHHI", 54 + len(five_rows), 0, 0, 54) + head + five_rows


# PNG whose end is missing, alone and with the last sum, and orientations in every place where they are written.
plain = png(W, H, 8, 2, b"".join(b"\0" + row.tobytes() for row in rgb))
files["no_end.png"] = plain[:-12]
files["no_sum.png"] = plain[:-16]
TURN6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description %s</rdf:RDF></x:xmpmeta>'
ATTRIBUTE = XMP % b'tiff:Orientation="5"/>'
ELEMENT = XMP % b"><tiff:Orientation>8</tiff:Orientation></rdf:Description>"


def with_chunks(before=(), after=()):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = plain[:33]
    return start + b"".join(chunk(*c) for c in before) + plain[33:-12] + b"".join(chunk(*c) for c in after) + plain[-12:]


profile = b"\nexif\n%8d\n" % (6 + len(TURN6)) + (b"Exif\0\0" + TURN6).hex().encode() + b"\n"
files["raw_profile.png"] = with_chunks([(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))])
files["raw_profile_text.png"] = with_chunks([(b"tEXt", b"Raw profile type exif\0" + profile)])
files["xmp.png"] = with_chunks([(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + ATTRIBUTE)])
files["xmp_packed.png"] = with_chunks([(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(ELEMENT))])
files["xmp_latin.png"] = with_chunks([(b"tEXt", b"XML:com.adobe.xmp\0" + ELEMENT)])
files["xmp_packed_latin.png"] = with_chunks([(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(ATTRIBUTE))])
files["raw_profile_itxt.png"] = with_chunks([(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + profile)])
files["late_exif.png"] = with_chunks(after=[(b"eXIf", TURN6)])
save("xmp.jpg", RGB.resize((12, 7)), format="JPEG", xmp=ATTRIBUTE)
save("xmp_and_exif.jpg", RGB.resize((12, 7)), format="JPEG", xmp=ATTRIBUTE, exif=exif)
save("xmp.webp", RGB, format="WEBP", lossless=True, xmp=ELEMENT)
save("xmp.tiff", RGB, format="TIFF", tiffinfo={700: ELEMENT})

# Bitmaps: masks of every layout, rows from the top, a header of OS/2, runs.
def bmp(bits, data, masks=(), header=40, height=H, palette=b""):
    fields = struct.pack("<IiiHHIIiiII", header, W, height, 1, bits, 3 if masks else 0, len(data), 0, 0, len(palette) // 4, 0)
    fields += b"".join(struct.pack("<I", mask) for mask in masks)
    fields = fields.ljust(header if header > 40 else len(fields), b"\0") + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(fields) + len(data), 0, 0, 14 + len(fields)) + fields + data


sixteen = rng.integers(0, 1 << 16, (H, W + 1)).astype("<u2").tobytes()
files["565.bmp"] = bmp(16, sixteen, (0xF800, 0x7E0, 0x1F))
files["555.bmp"] = bmp(16, sixteen, (0x7C00, 0x3E0, 0x1F))
files["565_down.bmp"] = bmp(16, sixteen, (0xF800, 0x7E0, 0x1F, 0), header=56, height=-H)
four = rng.integers(0, 256, (H, W, 4), dtype=np.uint8).tobytes()
for name, masks in {"bgra": (0xFF0000, 0xFF00, 0xFF, 0xFF000000), "rgba": (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
                    "xbgr": (0xFF000000, 0xFF0000, 0xFF00, 0)}.items():
    files[f"{name}_mask.bmp"] = bmp(32, four, masks, header=108)
files["plain32_down.bmp"] = bmp(32, four, height=-H)
os2 = struct.pack("<IHHHH", 12, W, H, 1, 24)
three = b"".join(row.tobytes().ljust(-(-3 * W // 4) * 4, b"\0") for row in rgb)
files["os2.bmp"] = b"BM" + struct.pack("<IHHI", 26 + len(three), 0, 0, 26) + os2 + three


# TIFF of every kind that PIL opens: II or MM, classic or big, in strips.
def tiff(samples, photometric, *, order="<", big=False, bits=None, form=1, extras=(), planes=1, fill=1, colours=None, more=()):
    kinds = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
    if isinstance(samples, bytes):
        data, count = samples, 1
    else:
        count = len(samples) if planes == 2 else (samples.shape[2] if samples.ndim == 3 else 1)
        bits = bits or samples.dtype.itemsize * 8
        data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    if fill == 2:
        data = bytes(int(f"{b:08b}"[::-1], 2) for b in data)
    entries = {256: (3, [W]), 257: (3, [H]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]),
               266: (3, [fill]), 277: (3, [count]), 284: (3, [planes])}
    strips = count if planes == 2 else 1
    entries[278] = (3, [H])
    entries[279] = (4, [len(data) // strips] * strips)
    entries[273] = (4, [0] * strips)
    if extras:
        entries[338] = (3, list(extras))
    if form != 1:
        entries[339] = (3, [form] * count)
    if colours is not None:
        entries[320] = (3, list(colours))
    entries.update(more)
    wide, slot = ("Q", 8) if big else ("I", 4)
    length = (8 if big else 2) + len(entries) * (20 if big else 12) + slot
    start = (16 if big else 8) + length
    tail, rows = b"", b""
    for turn in range(2):
        tail, rows = b"", b""
        for tag, (kind, values) in sorted(entries.items()):
            packed = struct.pack(order + str(len(values)) + kinds[kind], *values)
            if len(packed) <= slot:
                value = packed.ljust(slot, b"\0")
            else:
                value = struct.pack(order + wide, start + len(tail))
                tail += packed + b"\0" * (len(packed) % 2)
            rows += struct.pack(order + "HH" + wide, tag, kind, len(values)) + value
        entries[273] = (4, [start + len(tail) + i * (len(data) // strips) for i in range(strips)])
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    body = struct.pack(order + ("Q" if big else "H"), len(entries)) + rows + struct.pack(order + wide, 0)
    return mark + head + body + tail + data


def packed(bits):
    values = rng.integers(0, 2**bits, (H, W))
    line = lambda row: "".join(f"{v:0{bits}b}" for v in row).ljust(-(-W * bits // 8) * 8, "0")
    return b"".join(int(line(row), 2).to_bytes(-(-W * bits // 8)) for row in values)


real = (rng.random((H, W)) * 400 - 70).astype(np.float32)
words = rng.integers(0, 700, (H, W)).astype(np.uint16)
made = {
    "big.tiff": tiff(rgb, 2, big=True),
    "float.tiff": tiff(real, 1, form=3),
    "float_mm_inverted.tiff": tiff(real, 0, form=3, order=">"),
    "int32.tiff": tiff((real * 3).astype(np.int32), 1, form=2),
    "int32_mm.tiff": tiff((real * 3).astype(np.int32), 1, form=2, order=">"),
    "uint32.tiff": tiff(wide[..., 0].astype(np.uint32) * 66000 % 400, 1),
    "uint32_high.tiff": tiff(wide[..., 0].astype(np.uint32) * 66000, 1),
    "int16.tiff": tiff((real * 3).astype(np.int16), 1, form=2),
    "int8.tiff": tiff(gray.view(np.int8), 1, form=2),
    "gray16_inverted.tiff": tiff(words, 0),
    "gray16_mm.tiff": tiff(words, 1, order=">"),
    "rgb16.tiff": tiff(wide[..., :3].astype(np.uint16), 2),
    "rgba16.tiff": tiff(wide.astype(np.uint16), 2, extras=(2,)),
    "rgbx16.tiff": tiff(wide.astype(np.uint16), 2, extras=(0,)),
    "rgba_multiplied.tiff": tiff(rgba, 2, extras=(1,)),
    "rgba16_multiplied.tiff": tiff(wide.astype(np.uint16), 2, extras=(1,)),
    "rgba_nameless.tiff": tiff(rgba, 2),
    "rgbaxx.tiff": tiff(np.dstack([rgba, gray, gray]), 2, extras=(2, 0, 0)),
    "rgbx.tiff": tiff(rgba, 2, extras=(0,)),
    "grayx.tiff": tiff(np.dstack([gray, alpha]), 1, extras=(0,)),
    "palette_alpha.tiff": tiff(np.dstack([gray, alpha]), 3, extras=(2,), colours=rng.integers(0, 65536, 768)),
    "cmyk16.tiff": tiff(wide.astype(np.uint16), 5),
    "cmykx.tiff": tiff(np.dstack([rgba, gray]), 5, extras=(0,)),
    "planar.tiff": tiff(np.ascontiguousarray(rgb.transpose(2, 0, 1)), 2, planes=2),
    "planar16.tiff": tiff(np.ascontiguousarray(wide[..., :3].astype(np.uint16).transpose(2, 0, 1)), 2, planes=2),
    "ycbcr.tiff": tiff(rgb, 6, more={530: (3, [1, 1])}.items()),
    "gray2.tiff": tiff(packed(2), 1, bits=2),
    "gray4_inverted.tiff": tiff(packed(4), 0, bits=4),
    "one_inverted.tiff": tiff(packed(1), 0, bits=1),
    "one_reversed.tiff": tiff(packed(1), 1, bits=1, fill=2),
    "gray_reversed.tiff": tiff(gray, 1, fill=2),
    "palette2.tiff": tiff(packed(2), 3, bits=2, colours=rng.integers(0, 65536, 12)),
    # Refused by PIL.
    "double.tiff": tiff(real.astype(np.float64), 1, form=3),
    "rgb_float.tiff": tiff(np.dstack([real] * 3), 2, form=3),
    "gray_multiplied.tiff": tiff(np.dstack([gray, alpha]), 1, extras=(1,)),
    "uint16_mm_inverted.tiff": tiff(words, 0, order=">"),
    "gray64.tiff": tiff(wide[..., 0].astype(np.uint64), 1),
}
files.update(made)
save("tiled.tiff", RGB, format="TIFF", tiffinfo={322: 16, 323: 16}, compression="tiff_lzw")

# AVIF, and HEIC by the plugin that transformers' users have.
large = Image.fromarray(np.kron(rgb, np.ones((3, 3, 1), np.uint8)))
save("444.avif", large, format="AVIF", quality=90, subsampling="4:4:4")
save("420.avif", large, format="AVIF", quality=90, subsampling="4:2:0")
save("422.avif", large, format="AVIF", quality=90, subsampling="4:2:2")
save("gray.avif", large, format="AVIF", quality=90, subsampling="4:0:0")
save("limited.avif", large, format="AVIF", quality=90, range="limited")
save("lossless.avif", large, format="AVIF", quality=100, subsampling="4:4:4")
save("alpha.avif", RGBA, format="AVIF", quality=90)
for orientation in range(2, 9):
    exif = Image.Exif()
    exif[274] = orientation
    save(f"orientation{orientation}.avif", RGB.resize((24, 14)), format="AVIF", exif=exif)


def box(name, *parts):
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def full(name, version, flags, *parts):
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def grid(tiles, columns, width, height):
    """Pictures of 64 x 64 put together, as phones store large ones. Pillow writes none, so the boxes are written here."""
    coded = []
    for tile in tiles:
        data = io.BytesIO()
        Image.fromarray(tile).save(data, format="AVIF", quality=90)
        coded.append(data.getvalue())

    def found(data, name):
        at = data.find(name) - 4
        return data[at : at + struct.unpack_from(">I", data, at)[0]]

    payloads = [found(data, b"mdat")[8:] for data in coded]
    properties = [full(b"ispe", 0, 0, struct.pack(">II", *size)) for size in [(width, height), (64, 64)]]
    properties += [found(coded[0], name) for name in [b"av1C", b"pixi", b"colr"]]
    ids = range(2, 2 + len(tiles))
    kinds = [(1, b"grid")] + [(i, b"av01") for i in ids]
    infos = [full(b"infe", 2, 0, struct.pack(">HH", i, 0), kind, b"\0") for i, kind in kinds]
    uses = [(1, [1, 4, 5])] + [(i, [2, 3, 4, 5]) for i in ids]
    uses = b"".join(struct.pack(">HB", i, len(u)) + bytes(u) for i, u in uses)
    plan = struct.pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, width, height)

    def file(start):
        places = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(plan))
        for i, payload in zip(ids, payloads):
            places += struct.pack(">HHHHII", i, 0, 0, 1, start, len(payload))
            start += len(payload)
        meta = full(b"meta", 0, 0, full(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
                    full(b"pitm", 0, 0, struct.pack(">H", 1)),
                    full(b"iloc", 1, 0, struct.pack(">HH", 0x4400, len(kinds)), places),
                    full(b"iinf", 0, 0, struct.pack(">H", len(infos)), *infos),
                    full(b"iref", 0, 0, box(b"dimg", struct.pack(">HH", 1, len(tiles)), *(struct.pack(">H", i) for i in ids))),
                    box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, 0, struct.pack(">I", len(kinds)), uses)),
                    box(b"idat", plan))
        return box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf") + meta + box(b"mdat", *payloads)

    return file(file(0).find(payloads[0]))


whole = np.kron(rgb, np.ones((8, 8, 1), np.uint8))[:128, :128]
tiles = [whole[top : top + 64, left : left + 64] for top in (0, 64) for left in (0, 64)]
files["grid.avif"] = grid(tiles, 2, 120, 100)
pillow_heif.register_heif_opener()
save("rgb.heic", large, format="HEIF", quality=80)
save("444.heic", large, format="HEIF", quality=90, chroma=444)

out = {}
(here / "decode").mkdir(exist_ok=True)
for name, data in files.items():
    (here / "decode" / name).write_bytes(data)
    try:
        image = load_image(str(here / "decode" / name))
    except Exception as error:
        # A file without a golden is one that is to be refused.
        print(f"{name} is refused: {error}")
        continue
    out[name] = np.ascontiguousarray(convert_to_rgb(image, return_numpy=True))
# PIL takes planes of 16 bits for planes of 8; the samples are those of the file with its samples side by side.
out["planar16.tiff"] = out["rgb16.tiff"]
save_file(out, here / "decode.safetensors")
