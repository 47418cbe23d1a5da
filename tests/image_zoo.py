"""Image files of every kind that people have, made from known pixels, and files that are no images at all."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 16)
"""Height and width of the files, unless they say otherwise: the canonical size, so that nothing is resized."""

Make = Callable[[Path], np.ndarray]
"""Writes the file and returns the pixels that should be stored for it, at the file's own upright size."""


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Random pixels, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def plain(path: Path) -> np.ndarray:
    pixels = picture()
    Image.fromarray(pixels).save(path, "PNG")  # whatever the name says
    return pixels


def tiny(path: Path) -> np.ndarray:
    pixels = picture(1, (1, 1))
    Image.fromarray(pixels).save(path)
    return pixels


def gray(path: Path) -> np.ndarray:
    values = picture(2)[..., 0]
    Image.fromarray(values).save(path)
    return three(values)


def bilevel(path: Path) -> np.ndarray:
    values = (picture(3)[..., 0] > 127).astype(np.uint8) * 255
    Image.fromarray(values).convert("1").save(path)
    return three(values)


def gray_16(path: Path) -> np.ndarray:
    """All of 0..65535 is used, and little of it lies below 256, where a clipping conversion would leave it."""
    values = np.random.default_rng(4).integers(0, 65536, SIZE).astype(np.uint16)
    Image.fromarray(values).save(path)
    return three((values // 256).astype(np.uint8))


def gray_16_big_endian(path: Path) -> np.ndarray:
    values = np.random.default_rng(5).integers(0, 65536, SIZE).astype(np.uint16)
    write_tiff(path, values[..., None], byte_order=">")
    return three((values // 256).astype(np.uint8))


def colour_16_png(path: Path) -> np.ndarray:
    values = np.random.default_rng(6).integers(0, 65536, (*SIZE, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    write_png(path, SIZE, bits=16, rows=rows)
    return (values // 256).astype(np.uint8)


def colour_16_tiff(path: Path) -> np.ndarray:
    values = np.random.default_rng(7).integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    write_tiff(path, values, byte_order="<")
    return (values // 256).astype(np.uint8)


def cmyk(path: Path) -> np.ndarray:
    """No cyan, all magenta, all yellow: red above; half black below."""
    inks = np.zeros((*SIZE, 4), np.uint8)
    inks[:16] = (0, 255, 255, 0)
    inks[16:] = (0, 0, 0, 128)
    Image.fromarray(inks, "CMYK").save(path, **({"quality": 100} if path.suffix == ".jpg" else {}))
    expected = np.full((*SIZE, 3), 127, np.uint8)
    expected[:16] = (255, 0, 0)
    return expected


def palette(path: Path) -> np.ndarray:
    image = Image.fromarray(picture(8)).quantize(32)
    image.save(path)
    table = np.array(image.getpalette()).reshape(-1, 3)
    return table[np.asarray(image)].astype(np.uint8)


def palette_transparent(path: Path) -> np.ndarray:
    expected = palette(path)
    image = Image.open(path)
    first = np.asarray(image) == 0
    image.save(path, transparency=0)
    expected[first] = 255
    return expected


def alpha(path: Path) -> np.ndarray:
    """Opaque above, half transparent in the middle, gone below: over white."""
    colours = picture(9)
    opacity = np.repeat(np.array([255, 128, 0], np.uint8), [12, 10, 10])[:, None]
    layer = np.dstack([colours, np.broadcast_to(opacity, SIZE)])
    Image.fromarray(layer).save(path)
    share = opacity[..., None] / 255
    return np.round(colours * share + 255 * (1 - share)).astype(np.uint8)


def gray_alpha(path: Path) -> np.ndarray:
    values = picture(10)[..., 0]
    opacity = np.where(np.arange(32)[:, None] < 16, 255, 0).astype(np.uint8) * np.ones((1, 16), np.uint8)
    Image.fromarray(np.dstack([values, opacity]), "LA").save(path)
    return three(np.where(opacity == 255, values, 255).astype(np.uint8))


def turned(path: Path) -> np.ndarray:
    """Stored lying on its side, with the EXIF orientation that turns it clockwise to show it."""
    upright = picture(11)
    image = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)
    return upright


def animated(path: Path) -> np.ndarray:
    frames = [Image.fromarray(picture(seed)) for seed in (12, 13)]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    return picture(12)


def huge(path: Path) -> np.ndarray:
    """8000x4000, four colours."""
    corners = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)
    Image.fromarray(corners).resize((4000, 8000), Image.Resampling.NEAREST).save(path, quality=95)
    return np.repeat(np.repeat(corners, 16, axis=0), 8, axis=1)


def three(values: np.ndarray) -> np.ndarray:
    """Gray as RGB."""
    return np.repeat(values[..., None], 3, axis=2)


def write_png(path: Path, size: tuple[int, int], *, bits: int, rows: bytes) -> None:
    """A PNG of RGB pixels, byte by byte: ``rows`` are filter byte and values of each row."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def write_tiff(path: Path, values: np.ndarray, *, byte_order: str) -> None:
    """An uncompressed TIFF of 16-bit values (height, width, 1 or 3)."""
    height, width, channels = values.shape
    data = values.astype(f"{byte_order}u2").tobytes()
    end = 8 + 9 * 12 + 2 + 4
    bits = (258, 3, 1, 16) if channels == 1 else (258, 3, 3, end)
    entries = [(256, 3, 1, width), (257, 3, 1, height), bits, (259, 3, 1, 1), (262, 3, 1, 1 if channels == 1 else 2)]
    entries += [(273, 4, 1, end + 6), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data))]
    out = io.BytesIO()
    out.write(struct.pack(f"{byte_order}2sHIH", b"II" if byte_order == "<" else b"MM", 42, 8, len(entries)))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        out.write(
            struct.pack(
                f"{byte_order}HHI" + ("HH" if short else "I"), tag, kind, count, *([value, 0] if short else [value])
            )
        )
    out.write(struct.pack(f"{byte_order}I3H", 0, 16, 16, 16) + data)
    path.write_bytes(out.getvalue())


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    plain(path)
    path.write_bytes(path.read_bytes()[:600])


def corrupt(path: Path) -> None:
    plain(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def words(path: Path) -> None:
    path.write_text("<html>404 not found</html>", encoding="utf-8")


def bomb(path: Path) -> None:
    """A few bytes that say they are 60,000 x 60,000 pixels."""
    write_png(path, (60_000, 60_000), bits=8, rows=b"\0" * 1000)


def enormous(path: Path) -> None:
    """Below Pillow's own limit, beyond ours."""
    write_png(path, (9000, 9000), bits=8, rows=b"\0" * 1000)


def numbers(path: Path) -> None:
    Image.fromarray(np.ones(SIZE, np.float32)).save(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.png")


LONG = "/".join("x" * 80 for _ in range(12))
"""A folder a thousand characters deep."""

GOOD: dict[str, Make] = {
    "plain.png": plain,
    "tiny.png": tiny,
    "gray.png": gray,
    "bilevel.png": bilevel,
    "gray-16.png": gray_16,
    "gray-16.tif": gray_16,
    "gray-16-big-endian.tif": gray_16_big_endian,
    "colour-16.png": colour_16_png,
    "colour-16.tif": colour_16_tiff,
    "cmyk.tif": cmyk,
    "cmyk.jpg": cmyk,
    "palette.png": palette,
    "palette-transparent.png": palette_transparent,
    "alpha.png": alpha,
    "alpha.tif": alpha,
    "gray-alpha.png": gray_alpha,
    "turned.png": turned,
    "turned.tif": turned,
    "animated.webp": animated,
    "animated.png": animated,
    "pages.tif": animated,
    "huge.jpg": huge,
    "a-png-by-another-name.jpg": plain,
    "na\u00efve \u884c\u4eba, 'quoted'.png": plain,
    f"{LONG}/deep.png": plain,
    f"{'n' * 240}.png": plain,
}

BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty.png": (empty, "cannot be read as an image (0 bytes)"),
    "truncated.png": (truncated, "truncated"),
    "corrupt.png": (corrupt, "cannot be read as an image"),
    "words.jpg": (words, "cannot be read as an image (26 bytes)"),
    "bomb.png": (bomb, "decompression bomb"),
    "enormous.png": (enormous, "9000x9000 pixels are no crop of a person"),
    "numbers.tif": (numbers, "32-bit numbers"),
    "dangling.png": (dangling, "is a link to nothing"),
}
