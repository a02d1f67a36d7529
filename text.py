"""Text for a terminal: tables that fit its width."""

from collections.abc import Sequence


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Right-aligned columns under their headers, two spaces apart.

    What is wider than `width` goes on below, with the first column again. A single column keeps its width.
    """
    texts = [head, *rows]
    widths = [max(map(len, cells)) for cells in zip(*texts, strict=True)]
    blocks = [[0]]
    for i in range(1, len(head)):
        if width and len(blocks[-1]) > 1 and sum(widths[j] + 2 for j in [*blocks[-1], i]) - 2 > width:
            blocks.append([0])
        blocks[-1].append(i)
    return "\n\n".join(
        "\n".join("  ".join(row[i].rjust(widths[i]) for i in block) for row in texts) for block in blocks
    )
