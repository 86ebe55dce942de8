"""The file in a form, taken from the body of a request in memory."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class FormError(ValueError):
    """A form that cannot be read, or has no file."""


def file_of_form(body: bytes, content_type: str) -> bytes:
    """The first file of a form (RFC 7578); the body itself if it is no form.

    Raises `FormError`.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return body
    parts = _Parts()
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, KeyError) as error:
        raise FormError(f"not a form that can be read: {error}") from None
    if not parts.files:
        raise FormError("the form has no file; send one as `curl -F file=@photo.jpg`")
    return parts.files[0]


class _Parts:
    """What the parser reports, gathered: the files of a form."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._is_file = False

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls, by its names."""
        return {
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end_part,
        }

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._is_file |= b"filename" in parse_options_header(bytes(self._value))[1]
        self._header.clear()
        self._value.clear()

    def _end_part(self) -> None:
        if self._is_file:
            self.files.append(bytes(self._content))
        self._content.clear()
        self._is_file = False
