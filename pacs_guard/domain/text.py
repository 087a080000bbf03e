"""Text from outside, made fit for logs, terminals, pages and messages."""

from __future__ import annotations

LONGEST = 1000


def printable(text: str, *, keep: str = "", longest: int = LONGEST) -> str:
    r"""Return `text` on one line, without anything that commands a terminal, and not without end.

    Parameters
    ----------
    text : str
        Whatever a peer or a data set says.
    keep : str
        Characters to leave although they are not printable, such as a new line.
    longest : int
        Characters; what is longer is cut and ends in an ellipsis.

    Examples
    --------
    >>> printable("HU\x1b[2J\n")
    'HU�[2J�'
    """
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() or one in keep else "\N{REPLACEMENT CHARACTER}" for one in cut)
