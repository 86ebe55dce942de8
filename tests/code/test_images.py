"""Decoding: real image files made by Pillow, of every kind that it hands on differently."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from stages.acquisition.portraits import draw_portrait
from stages.raw.images import UnreadableImageError, decode

LIMIT = 10**7
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# How a camera that was turned stores the upright picture: the inverse of the transposition
# that each EXIF orientation asks for.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def portrait():
    return Image.fromarray(draw_portrait(30, 0, 2, np.random.default_rng(0), size=120)).crop(
        (0, 0, 120, 80)
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_exact_pixels(kind, portrait):
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(portrait, kind, **options), LIMIT)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(portrait))


def test_jpeg_gives_the_pixels_that_pillow_reads(portrait):
    data = encoded(portrait, "JPEG", quality=92)
    np.testing.assert_array_equal(
        decode(data, LIMIT), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


def by_pillow(data):
    """The pixels as Pillow alone decodes them, or None where it fails."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:
        return None


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("shape", [(80, 120), (81, 121), (1, 1), (7, 33)])
def test_jpegs_of_every_layout_give_the_pixels_that_pillow_reads(
    shape, options, subsampling, portrait
):
    image = portrait.resize(shape[::-1])
    data = encoded(image, "JPEG", quality=75, subsampling=subsampling, **options)
    pixels = decode(data, LIMIT)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_jpegs_give_what_pillow_makes_of_them(options, portrait):
    data = encoded(portrait, "JPEG", quality=80, **options)
    chance, decoded = np.random.default_rng(3), 0
    for _ in range(400):
        damaged = bytearray(data)
        for place in chance.integers(0, len(data), 3):
            damaged[place] = chance.integers(256)
        expected = by_pillow(bytes(damaged))
        try:
            pixels = decode(bytes(damaged), LIMIT)
        except UnreadableImageError:
            # More is refused than by Pillow: passes without end, orientations without sense.
            continue
        np.testing.assert_array_equal(pixels, expected)
        decoded += 1
    assert decoded > 100


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_every_exif_orientation_gives_the_upright_picture(kind, orientation, portrait):
    turn = STORED[orientation]
    stored = portrait if turn is None else portrait.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode(encoded(stored, kind, exif=exif, **options), LIMIT).astype(int)
    assert pixels.shape == (80, 120, 3)
    assert np.abs(pixels - np.asarray(portrait)).mean() < (4 if kind == "JPEG" else 1e-9)


def test_pillows_remarks_about_a_file_are_not_printed(portrait, tmp_path):
    (tmp_path / "a.jpg").write_bytes(
        encoded(portrait, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    )
    script = "import sys; from stages.raw.images import decode; "
    script += "print(decode(open(sys.argv[1], 'rb').read(), 10**7).shape)"
    command = [sys.executable, "-c", script, str(tmp_path / "a.jpg")]
    top = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("(80, 120, 3)\n", "")


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"x"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_garbled_exif_does_not_cost_the_picture(exif, portrait):
    for kind in ("JPEG", "PNG", "WEBP"):
        assert decode(encoded(portrait, kind, exif=exif), LIMIT).shape == (80, 120, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    pixels = decode(encoded(Image.fromarray(ramp), kind), LIMIT)
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], expected)


def test_16_bit_grey_is_turned_upright_too():
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(8, 32)
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = decode(encoded(Image.fromarray(ramp), "PNG", exif=exif), LIMIT)
    assert pixels[0, 0, 0] == 255
    assert pixels[-1, -1, 0] == 0


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_comes_close_to_the_rgb_original(kind, portrait):
    pixels = decode(encoded(portrait.convert("CMYK"), kind), LIMIT)
    assert np.abs(pixels.astype(int) - np.asarray(portrait)).mean() < 6


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_bilevel_pictures_have_three_equal_channels(mode, portrait):
    pixels = decode(encoded(portrait.convert(mode)), LIMIT)
    np.testing.assert_array_equal(
        pixels, np.repeat(np.asarray(portrait.convert(mode).convert("L"))[..., None], 3, axis=2)
    )


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0, (255, 255, 255)), (255, (200, 0, 0)), (51, (244, 204, 204))]
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_over_white(kind, alpha, expected):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = Image.new("RGBA", (8, 8), (200, 0, 0, alpha))
    pixels = decode(encoded(picture, kind, **options), LIMIT)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_grey_with_alpha_is_laid_over_white():
    pixels = decode(encoded(Image.new("LA", (4, 4), (0, 0))), LIMIT)
    np.testing.assert_array_equal(pixels, np.full((4, 4, 3), 255))


def test_a_palette_gives_its_colours_and_its_transparent_entry_is_white():
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    np.testing.assert_array_equal(decode(encoded(picture), LIMIT)[0], [RED, GREEN, BLUE])
    transparent = decode(encoded(picture, "PNG", transparency=1), LIMIT)
    np.testing.assert_array_equal(transparent[0], [RED, WHITE, BLUE])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (10, 6), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data, LIMIT), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_unreadable(kind, share, portrait):
    data = encoded(portrait, kind)
    with pytest.raises(UnreadableImageError):
        decode(data[: int(share * len(data))], LIMIT)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff\xd8", b"just text\n" * 99, b"<svg/>", b"%PDF-1.7\n"]
)
def test_what_is_no_image_is_unreadable(data):
    with pytest.raises(UnreadableImageError, match="not an image"):
        decode(data, LIMIT)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_random_damage_is_unreadable_or_decoded_but_never_another_error(portrait):
    generator = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(encoded(portrait, kind), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[generator.integers(0, min(len(data), 400), 6)] = generator.integers(0, 256, 6)
            try:
                pixels = decode(data.tobytes(), LIMIT)
            except UnreadableImageError:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3


def test_floating_point_pixels_are_unreadable():
    with pytest.raises(UnreadableImageError, match="floating-point"):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), LIMIT)


def test_a_picture_of_exactly_max_pixels_is_read_and_a_larger_one_is_not(portrait):
    data = encoded(portrait)
    assert decode(data, 120 * 80).shape == (80, 120, 3)
    with pytest.raises(UnreadableImageError, match=r"120x80 is more than detect\.max_pixels 9599"):
        decode(data, 120 * 80 - 1)


def png_without_pixels(width, height):
    """A PNG that ends where its pixels should begin."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", b"")


@pytest.mark.parametrize("size", [(10**8, 1), (1, 10**8), (65_536, 1)])
def test_a_picture_of_endless_rows_is_unreadable_and_no_lack_of_memory(size):
    with pytest.raises(UnreadableImageError, match=r"has a side of more than 65535 pixels"):
        decode(png_without_pixels(*size), 10**8)


def test_max_pixels_is_checked_in_the_header_before_any_pixel_is_read():
    data = png_without_pixels(12_000, 10_000)
    with pytest.raises(UnreadableImageError, match="12000x10000 is more than"):
        decode(data, 100_000_000)
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode(data, 200_000_000)


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_stays_silent():
    data = encoded(Image.new("1", (10_000, 9_000)))  # above Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableImageError, match=r"detect\.max_pixels"):
        decode(data, 10**6)


def test_only_the_formats_of_labelled_names_are_read():
    picture = Image.new("RGB", (64, 64))
    for kind in ("PPM", "TGA", "ICO", "PCX", "EPS", "SGI"):
        with pytest.raises(UnreadableImageError, match="not an image"):
            decode(encoded(picture, kind), LIMIT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_embedded_profile_leaves_the_pixels_as_they_are(kind, portrait):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, tagged = encoded(portrait, kind), encoded(portrait, kind, icc_profile=profile)
    assert plain != tagged
    np.testing.assert_array_equal(decode(plain, LIMIT), decode(tagged, LIMIT))


def test_a_jpeg_of_endless_passes_is_refused_from_its_bytes():
    data = encoded(Image.new("L", (2000, 2000), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data, 2000 * 2000).shape == (2000, 2000, 3)
    bomb = data[:-2] + last * 100_000 + data[-2:]
    with pytest.raises(UnreadableImageError, match=r"passes over 2000x2000"):
        decode(bomb, 2000 * 2000)


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1)])
def test_pictures_of_any_shape_within_the_limit_are_read(size):
    assert decode(encoded(Image.new("RGB", size)), LIMIT).shape == (size[1], size[0], 3)


def test_damage_always_has_a_reason_in_one_printable_line(portrait, monkeypatch):
    for error, message in ((KeyError(), "KeyError"), (ValueError("a\n=\x1b[31m\0"), "a =")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
        with pytest.raises(UnreadableImageError, match=f"^damaged image: {message}") as caught:
            decode(encoded(portrait), LIMIT)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
def test_lack_of_memory_is_no_damage_of_the_image(error, portrait, monkeypatch):
    def load(_):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        decode(encoded(portrait, "PNG"), LIMIT)
