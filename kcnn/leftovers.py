"""Recognition of what systems and programs leave in folders: thumbnails, recycle bins, indices. None of it is data."""

import fnmatch

# Compared in lower case. Names that could be a class, such as "recycled", are not here.
_NAMES = frozenset(
    {
        # Windows
        "$extend", "$recycle.bin", "$sysreset", "$windows.~bt", "$windows.~ws", "$winreagent", "autorun.inf",
        "config.msi", "desktop.ini", "dumpstack.log", "dumpstack.log.tmp", "ehthumbs.db", "ehthumbs_vista.db",
        "hiberfil.sys", "indexervolumeguid", "msocache", "pagefile.sys", "recycler", "swapfile.sys",
        "system volume information", "thumbs.db", "wpsettings.dat",
        # macOS
        "__macosx", "desktop db", "desktop df", "icon\r", "network trash folder", "temporary items",
        "thevolumesettingsfolder",
        # network storage: Synology, QNAP, Buffalo, NetApp
        "#recycle", "#snapshot", "@__thumb", "@eadir", "@recently-snapshot", "@recycle", "@sharebin", "@sharesnap",
        "@tmp", "synoindex_media_info", "trashbox", "~snapshot",
        # Linux and Android
        "aquota.group", "aquota.user", "lost+found", "lost.dir",
        # programs
        "__pycache__", "_vti_cnf", "_vti_pvt", "picasa.ini", "zbthumbnail.info",
    }
)  # fmt: skip
_PATTERNS = (
    "*:zone.identifier",  # Windows' mark of a download, as WSL shows it
    "*@synoeastream",
    "*@synoresource",
    "albumart_{*",
    "found.[0-9][0-9][0-9]",  # what chkdsk has found
    "synofile_thumb_*",
    "synophoto_thumb_*",
    "thumbs.db:*",
    "~$*",  # the lock file of an office program
)


def is_leftover(name: str) -> bool:
    """Return whether a file or folder of this name is a leftover of a system or a program."""
    lowered = name.lower()
    return lowered in _NAMES or any(fnmatch.fnmatchcase(lowered, pattern) for pattern in _PATTERNS)


def is_data(name: str) -> bool:
    """Return whether a file or folder of this name is data: neither hidden nor a leftover."""
    return not name.startswith(".") and not is_leftover(name)
