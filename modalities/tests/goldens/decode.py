"""Small files of every format and kind of pixel, and what PIL reads from them: run to renew ../fixtures/decode*.

Needs pillow 13, numpy and safetensors. Files that PIL does not write are put together here byte by byte.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

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

out = {}
(here / "decode").mkdir(exist_ok=True)
for name, data in files.items():
    (here / "decode" / name).write_bytes(data)
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    out[name] = np.ascontiguousarray(np.array(image))
save_file(out, here / "decode.safetensors")
