"""Files that are pictures or films to others: their format by their first bytes, and what reads it.

Sources: the formats' own specifications, and https://github.com/file/file/tree/master/magic/Magdir.
"""

import os

from kcnn.data.input_pipeline.magic import FORMATS

HEAD = 512  # bytes of a file that tell its format

_MAGICK, _RAW_READER = "ImageMagick", "rawpy, dcraw_emu of LibRaw or darktable-cli"
_ARCHIVE, _FILM = "an archive tool", "ffmpeg"
# (position, bytes, format, what reads it); the first row that fits is taken.
_MAGIC = (
    (0, b"\xff\x0a", "JPEG XL", "djxl of libjxl"),
    (4, b"JXL \r\n\x87\n", "JPEG XL", "djxl of libjxl"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000", "opj_decompress of OpenJPEG or Pillow"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", "opj_decompress of OpenJPEG or Pillow"),
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS", "dcmdjpls of DCMTK or ffmpeg"),
    (0, b"II\xbc\x01", "JPEG XR", "JxrDecApp of jxrlib"),
    (8, b"CR\x02", "RAW (Canon CR2)", _RAW_READER),
    (0, b"FUJIFILMCCD-RAW", "RAW (Fujifilm RAF)", _RAW_READER),
    (0, b"IIRO", "RAW (Olympus ORF)", _RAW_READER),
    (0, b"IIRS", "RAW (Olympus ORF)", _RAW_READER),
    (0, b"MMOR", "RAW (Olympus ORF)", _RAW_READER),
    (0, b"IIU\0", "RAW (Panasonic RW2)", _RAW_READER),
    (0, b"FOVb", "RAW (Sigma X3F)", _RAW_READER),
    (0, b"\0MRM", "RAW (Minolta MRW)", _RAW_READER),
    (6, b"HEAPCCDR", "RAW (Canon CRW)", _RAW_READER),
    (0, b"8BPS", "PSD", "psd-tools or ImageMagick"),
    (0, b"gimp xcf", "XCF", "GIMP"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", "oiiotool of OpenImageIO"),
    (0, b"#?RADIANCE", "Radiance HDR", "oiiotool of OpenImageIO"),
    (0, b"#?RGBE", "Radiance HDR", "oiiotool of OpenImageIO"),
    (0, b"DDS ", "DDS", _MAGICK),
    (0, b"\0\0\1\0", "ICO", _MAGICK),
    (0, b"icns", "ICNS", _MAGICK),
    (0, b"qoif", "QOI", _MAGICK),
    (0, b"BPG\xfb", "BPG", "bpgdec of libbpg"),
    (0, b"FLIF", "FLIF", "flif"),
    (0, b"\n\5\1\x08", "PCX", _MAGICK),
    (0, b"\x01\xda", "SGI", _MAGICK),
    (0, b"\x59\xa6\x6a\x95", "Sun raster", _MAGICK),
    (0, b"SIMPLE  =", "FITS", "astropy"),
    (128, b"DICM", "DICOM", "pydicom or dcmj2pnm of DCMTK"),
    (344, b"n+1\0", "NIfTI", "nibabel"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", "h5py"),
    (0, b"\x93NUMPY", "NumPy", "numpy"),
    (0, b"%PDF", "PDF", "pdftoppm of Poppler"),
    (0, b"%!PS", "PostScript", "Ghostscript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", "Ghostscript"),
    (8, b"AVI ", "AVI", _FILM),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM", _FILM),
    (0, b"\0\0\1\xba", "MPEG", _FILM),
    (0, b"PK\3\4", "ZIP", _ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", _ARCHIVE),
    (0, b"Rar!\x1a\7", "RAR", _ARCHIVE),
    (0, b"\x1f\x8b\x08", "gzip", _ARCHIVE),
    *((0, b"P%d%c" % (kind, blank), "PNM", _MAGICK) for kind in range(1, 8) for blank in b" \t\r\n#"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Cameras' own formats that are TIFF in form, by the ending of the name.
_RAW_ENDINGS = frozenset(
    {
        ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef",
        ".rwl", ".sr2", ".srf", ".srw",
    }
)  # fmt: skip
# Brands of an ISO base media file (ISO/IEC 14496-12), in the order in which they decide.
_BRANDS = (
    ({b"avif", b"avis"}, "AVIF", "avifdec of libavif or Pillow 11.3"),
    ({b"crx "}, "RAW (Canon CR3)", _RAW_READER),
    (
        {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"},
        "HEIC",
        "pillow-heif or heif-convert of libheif",
    ),
)


def explain_format(head: bytes, filename: str) -> str | None:
    """Return why a file of another format cannot be taken, its format, and what reads that; None for any other file.

    Args:
        head: the beginning of the file, `HEAD` bytes or all of it.
        filename: its name, whose ending tells cameras' formats from TIFF.
    """
    found = _recognize(head[:HEAD], os.path.splitext(filename)[1].lower())
    if found is None:
        return None
    name, reader = found
    return f"{name} is not a supported format ({', '.join(sorted(FORMATS.values()))}); {reader} reads it"


def _recognize(head: bytes, ending: str) -> tuple[str, str] | None:
    if head[4:8] == b"ftyp" and head[8:12].decode("latin-1").isprintable():
        size = max(int.from_bytes(head[:4], "big"), 16)
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))}
        for known, name, reader in _BRANDS:
            if known & brands:
                return name, reader
        return "MP4 or QuickTime", _FILM
    for position, magic, name, reader in _MAGIC:
        if head.startswith(magic, position):
            return name, reader
    if head.startswith(tuple(FORMATS)):
        return None
    if head.startswith(_TIFF):
        raw = ending in _RAW_ENDINGS
        return (f"RAW ({ending[1:].upper()})", _RAW_READER) if raw else ("TIFF", "Pillow or ImageMagick")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "SVG", "CairoSVG or rsvg-convert of librsvg"
    # Without first bytes of its own; the header's third byte is the kind of image.
    return ("TGA", _MAGICK) if ending == ".tga" and head[2:3] in b"\1\2\3\x09\x0a\x0b" else None
