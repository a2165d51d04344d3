"""The pages of the project and the code blocks in them."""

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [page for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if "_build" not in page.parts]
PAGES.sort()
_FENCE = re.compile(r"^```(?P<language>\S*)\s*$")
_MARK = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")
_TITLE = re.compile(r"^# (?P<path>[\w/.]+\.py)$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: the file, relative to the project's folder.
        line: the number of its first line of code, from 1.
        language: the word after the fence.
        text: the code.
        reason: why it is not run, from the comment above it; None for one that is run.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def title(self) -> str | None:
        """The path in the comment on the first line, of a block that is a whole file."""
        match = _TITLE.match(self.text.split("\n", 1)[0])
        return match["path"] if match else None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, those that a backslash continues joined, without comments."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(line.split()) for line in joined if line.strip() and not line.lstrip().startswith("#")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page in order."""
    blocks: list[Block] = []
    before, start, language, code = "", None, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if start is None and fence:
            start, language, code = number + 1, fence["language"], []
        elif start is not None and line == "```":
            mark = _MARK.match(before)
            name = str(page.relative_to(ROOT))
            blocks.append(Block(name, start, language, "\n".join(code) + "\n", mark["reason"] if mark else None))
            start, before = None, ""
        elif start is not None:
            code.append(line)
        elif line.strip():
            before = line
    assert start is None, f"{page}:{start}: the block has no end"
    return blocks


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def split_command(line: str) -> list[str]:
    """Return the words of a shell line up to its comment."""
    return shlex.split(line, comments=True)
