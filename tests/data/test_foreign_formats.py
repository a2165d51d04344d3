"""Formats of others: named, with what reads them."""

import io

import pytest
from PIL import Image

from kcnn.data.foreign_formats import explain_format
from kcnn.data.input_pipeline.magic import FORMATS


def ftyp(*brands):
    return (8 + 4 + 4 * len(brands)).to_bytes(4, "big") + b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])


@pytest.mark.parametrize(
    ("name", "head", "format", "reader"),
    [
        ("IMG_1.HEIC", ftyp(b"heic", b"mif1", b"heic"), "HEIC", "pillow-heif"),
        ("a.heif", ftyp(b"mif1", b"mif1", b"heic"), "HEIC", "pillow-heif"),
        ("a.avif", ftyp(b"mif1", b"miaf", b"avif"), "AVIF", "avifdec"),
        ("a.avif", ftyp(b"avif"), "AVIF", "avifdec"),
        ("a.jpg", ftyp(b"heix", b"mif1"), "HEIC", "heif-convert"),  # under another name
        ("a.jxl", b"\xff\x0a\xfa\x7f", "JPEG XL", "djxl"),
        ("a.jxl", b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "djxl"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "opj_decompress"),
        ("a.j2k", b"\xff\x4f\xff\x51\0", "JPEG 2000", "opj_decompress"),
        ("a.cr3", ftyp(b"crx ", b"crx ", b"isom"), "RAW (Canon CR3)", "rawpy"),
        ("a.CR2", b"II*\0\x10\0\0\0CR\x02\0", "RAW (Canon CR2)", "rawpy"),
        ("a.NEF", b"MM\0*\0\0\0\x08", "RAW (NEF)", "rawpy"),
        ("a.dng", b"II*\0\x08\0\0\0", "RAW (DNG)", "rawpy"),
        ("a.arw", b"II*\0\x08\0\0\0", "RAW (ARW)", "rawpy"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", "RAW (Fujifilm RAF)", "rawpy"),
        ("a.orf", b"IIRO\x08\0\0\0", "RAW (Olympus ORF)", "rawpy"),
        ("a.rw2", b"IIU\0\x18\0\0\0", "RAW (Panasonic RW2)", "rawpy"),
        ("a.tif", b"MM\0*\0\0\0\x08", "TIFF", "Pillow"),
        ("a.svg", b'<?xml version="1.0"?>\n<svg xmlns="">', "SVG", "CairoSVG"),
        ("a.tga", b"\0\0\x02" + bytes(15), "TGA", "ImageMagick"),
        ("a.psd", b"8BPS\0\1", "PSD", "psd-tools"),
        ("a.dcm", bytes(128) + b"DICM", "DICOM", "pydicom"),
        ("a.pdf", b"%PDF-1.7", "PDF", "pdftoppm"),
        ("a.mov", ftyp(b"qt  "), "MP4 or QuickTime", "ffmpeg"),
        ("a.avi", b"RIFF\0\0\0\0AVI LIST", "AVI", "ffmpeg"),
        ("a.ppm", b"P6\n2 2\n255\n", "PNM", "ImageMagick"),
    ],
)
def test_formats_of_others_are_named_with_what_reads_them(name, head, format, reader):
    found = explain_format(head, name)
    assert found.startswith(f"{format} is not a supported format (BMP, GIF, JPEG, PNG, WEBP); ")
    assert reader in found


@pytest.mark.parametrize("format", [*FORMATS.values(), "MPO"])
@pytest.mark.parametrize("name", ["a.nef", "a.heic", "a.tga", "a"])
def test_what_is_read_is_not_taken_for_another_format(format, name):
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(buffer, format)
    assert explain_format(buffer.getvalue(), name) is None


@pytest.mark.parametrize("content", [b"", b"P", b"not a picture", b"Please read", b"\0" * 600, b"<html>"])
def test_what_is_no_picture_has_no_format(content):
    assert explain_format(content, "notes.txt") is None
