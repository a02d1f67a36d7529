"""How the content of a file becomes documents: text as it stands, or a row each of JSON, CSV and Parquet.

The one idea: what cannot be read is named by file and line. So rows are read here, line by line where the format has
lines; the loaders of `datasets` count within blocks, guess types, and change every `\\r\\n` in a text to `\\n`.
"""

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from data.config import DataConfig
from data.formats import File, NotText, complaints, not_text, open_content
from errors import InputError

BLOCK = 1 << 20  # bytes read at a time
ROWS = 100  # of a Parquet file, read at a time
SPEAKERS, SAID = ("role", "from"), ("content", "text", "value")
"""Names of the fields of a chat message in use."""

Row = tuple[str, Any]
"""Where it stands in its file, and its value; a ValueError for one that cannot be read."""


def text_blocks(file: File, line_ends: str, update: Callable[[bytes], object] = lambda block: None) -> Iterator[str]:
    """The text of a UTF-8 file, block by block, without a byte order mark; `update` gets the bytes that it is made of.

    line_ends: "unix" gives every line end as \\n, "keep" as it is. Raises InputError, or NotText.
    """
    decoder = utf8 = codecs.getincrementaldecoder("utf-8")()
    if line_ends == "unix":
        decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    at = 0
    with complaints(file), open_content(file) as stream:
        while True:
            block = stream.read(BLOCK)
            if not at and block.startswith(codecs.BOM_UTF8):
                at, block = 3, block[3:]
            update(block)
            if b"\0" in block:
                raise not_text(file, block, at + block.index(b"\0"))
            begun = at - len(utf8.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at, byte = begun + error.start, error.object[error.start]
                raise not_text(file, block, at, f"byte 0x{byte:02x} at offset {at} ({error.reason})") from None
            yield text
            if not block:
                return
            at += len(block)


def texts_of_rows(rows: Iterable[Row], name: str, config: DataConfig, note: Callable[[str], object]) -> Iterator[str]:
    """The text in the column that `config` names of every row of what is called `name`; rows without one are left out.

    note: called with what a user should know of the rows. Raises InputError naming the row that cannot be read.
    """
    n_rows = n_found = n_texts = n_skipped = 0
    first = None
    columns: list[str] = []
    for where, row in rows:
        n_rows += 1
        try:
            if isinstance(row, ValueError):
                raise row
            columns = columns or list(column_names(row))
            for value in values_at(row, config.column):
                n_found += 1
                if text := _checked(as_text(value), config.bad_rows):
                    n_texts += 1
                    yield text
        except (ValueError, TypeError) as error:
            n_skipped, first = n_skipped + 1, first or error
            if config.bad_rows == "skip":
                continue
            mend = "mend it, or leave such rows out with data.bad_rows: skip"
            if isinstance(error, TypeError) and not n_texts:
                mend = "give a column of text"
                mend += f"; the columns are {_named(columns)}" if columns != [config.column] else ""
            what = "data.path: " if row is error else f"data.column: {config.column!r} in "
            raise InputError(f"{what}{name}, {where}: {error}; {mend}") from None
        if not n_found and n_rows == 1000:
            break
    if not n_found and columns:
        raise no_column(config.column, name, columns)
    if n_skipped and not n_texts:
        raise InputError(f"data.path: no row of {name} can be read, as for the first of them: {first}")
    if n_skipped:
        note(f"{name}: {n_skipped} of {n_rows} rows left out, as they cannot be read (data.bad_rows: skip)")


def no_column(column: str, name: str, columns: Iterable[str], hint: str = "") -> InputError:
    return InputError(f"data.column: there is no column {column!r} in {name}; the columns are {_named(columns)}{hint}")


def _named(columns: Iterable[str]) -> str:
    return ", ".join(list(columns)[:12])[:200] or "none"


def _checked(text: str | None, bad_rows: str) -> str | None:
    """The text, if it can be tokens. Raises ValueError for NUL and half surrogates, unless they are to be replaced."""
    if text and "\0" in text:
        raise ValueError("the text holds a NUL character")
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError as error:
        if bad_rows == "replace":
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        half = ascii(text[error.start])[1:-1]
        raise ValueError(
            f"half of a surrogate pair ({half}), which is no character; data.bad_rows: replace puts U+FFFD in its place"
        ) from None
    return text


def values_at(value: Any, path: str) -> Iterator[Any]:
    """What is at a path such as a.b: field b of field a, of each element where a is a list; none where it is absent.
    A row that is a text is its own column "text"."""
    if isinstance(value, str) and path == DataConfig.column:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from values_at(item, path)
    elif not isinstance(value, dict):
        raise TypeError(f"{_kind(value)}, not an object with columns")
    elif path in value:
        yield value[path]
    else:
        first, _, rest = path.partition(".")
        if rest and value.get(first) is not None:
            yield from values_at(value[first], rest)


def column_names(row: Any, before: str = "", depth: int = 4) -> Iterator[str]:
    """The paths that `values_at` takes, for a row."""
    for name, value in row.items() if isinstance(row, dict) else ():
        inner = next(iter(value), None) if isinstance(value, list) else value
        if isinstance(inner, dict) and depth and not (isinstance(value, list) and set(SPEAKERS) & set(inner)):
            yield from column_names(inner, f"{before}{name}.", depth - 1)
        else:
            yield before + name
            if isinstance(inner, dict) and depth:
                yield from (f"{before}{name}.{said}" for said in SAID if said in inner)


def as_text(value: Any) -> str | None:
    """A text; a list of chat messages as a line 'role: content' each; a list of texts and marked-up texts joined.

    Raises TypeError for what is no text.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        parts = [({"text": item} if isinstance(item, str) else item) for item in value]
        if all(isinstance(part, dict) and set(SAID) & set(part) for part in parts):
            said = [as_text(next(part[name] for name in SAID if name in part)) or "" for part in parts]
            who = [next((part[name] for name in SPEAKERS if part.get(name)), None) for part in parts]
            if not any(who):
                return "".join(said)
            lines = [f"{name}: {text}" if name else text for name, text in zip(who, said, strict=True)]
            return "\n".join(line for line in lines if line)
    raise TypeError(f"{_kind(value)}, not text")


def _kind(value: Any) -> str:
    names = {str: "a text", dict: "an object", list: "a list", bool: "true or false"}
    names |= {int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def rows_of(file: File, column: str) -> Iterator[Row]:
    """The rows of a file of one of the kinds in `data.formats.KINDS`. Raises InputError where it is none."""
    read = {".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows}.get(file.kind, _json_rows)
    with complaints(file), open_content(file) as stream:
        yield from read(stream, file, column)


def _json_rows(stream: BinaryIO, file: File, column: str) -> Iterator[Row]:
    """A value a line; or one value, spread over the lines, whose elements are the rows where it is a list."""
    first = stream.readline().removeprefix(codecs.BOM_UTF8)
    try:
        json.loads(first or b"0")
    except ValueError:
        if file.kind == ".json" or first.lstrip()[:1] == b"[":
            try:
                value = json.loads(first + stream.read())
            except (ValueError, RecursionError) as error:
                raise InputError(f"data.{file.key}: cannot read {file.name}: not JSON ({error}); mend it") from None
            yield from ((f"row {i}", row) for i, row in enumerate(value if isinstance(value, list) else [value], 1))
            return
    except RecursionError:
        pass
    n = 0
    for line in _and_then(first, stream):
        n += 1
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except RecursionError:
            value = ValueError("nested too deep")
        except UnicodeDecodeError as error:
            value = ValueError(f"not UTF-8 ({error.reason}); save the file as UTF-8")
        except ValueError as error:
            value = ValueError(f"not JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})")
        if isinstance(value, list):
            yield from ((f"line {n}", row) for row in value)
        else:
            yield f"line {n}", value


def _and_then(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _csv_rows(stream: BinaryIO, file: File, column: str) -> Iterator[Row]:
    """Rows under a first line that names the columns; fields are parted by what makes `column` one of them."""
    csv.field_size_limit(sys.maxsize)
    delimiters = "\t" if file.kind == ".tsv" else ",;\t|"
    number = 1
    try:
        lines = (line.decode("utf-8-sig" if line.startswith(codecs.BOM_UTF8) else "utf-8") for line in stream)
        first = next(lines, "")
        for delimiter in delimiters:
            names = next(csv.reader([first], delimiter=delimiter), [])
            if column in names:
                break
        else:
            names = next(csv.reader([first], delimiter=delimiters[0]), [])
            raise no_column(column, file.name, names, " (the first line names them)")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        place = names.index(column)
        while True:
            number = reader.line_num + 2
            fields = next(reader, None)
            if fields is None:
                return
            if len(fields) == len(names):
                yield f"line {number}", {column: fields[place]}
            elif fields:
                n = f"{len(fields)} fields, where the first line names {len(names)}"
                yield f"line {number}", ValueError(f"{n}: text with {delimiter!r} in it needs quotes around it")
    except csv.Error as error:
        raise InputError(f"data.{file.key}: cannot read {file.name}, from line {number}: {error}; mend it") from None
    except UnicodeDecodeError as error:
        raise NotText(f"{file} is not UTF-8: line {number} ({error.reason}); save it as UTF-8") from None


def _parquet_rows(stream: BinaryIO, file: File, column: str) -> Iterator[Row]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(stream, pre_buffer=False)
        name = column if column in table.schema_arrow.names else column.partition(".")[0]
        if name not in table.schema_arrow.names:
            paths = [table.schema.column(i).path for i in range(len(table.schema))]
            raise no_column(column, file.name, [path.replace(".list.element", "") for path in paths])
        n = 0
        for batch in table.iter_batches(batch_size=ROWS, columns=[name]):
            for row in batch.to_pylist():
                n += 1
                yield f"row {n}", row
    except (pyarrow.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"data.{file.key}: cannot read {file.name}: {text}; make it again") from None
