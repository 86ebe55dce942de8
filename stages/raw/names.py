r"""Escaped names of members: printable, and safe in spreadsheets.

Bytes that are not printable UTF-8, and the backslash, become `\xNN`. So does a leading `=`, `+`,
`-` or `@`, which a spreadsheet would interpret as a formula
(https://owasp.org/www-community/attacks/CSV_Injection). The escaping is reversible.
"""

import hashlib

_FORMULA = ("=", "+", "-", "@")
LONGEST = 1024  # characters of a path; longer ones are abbreviated


def spell(path: str) -> str:
    """Escape a path with forward slashes; one longer than LONGEST becomes a digest and its end.

    Bytes that are not UTF-8 are lone surrogates in `path`.
    """
    escaped = "/".join(map(_escape_part, path.split("/")))
    if len(escaped) <= LONGEST:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()
    return f"{digest[:32]}...{escaped[-LONGEST // 4 :]}"


def _escape_part(part: str) -> str:
    escaped = "".join(c if c.isprintable() and c != "\\" else _as_bytes(c) for c in part)
    return _as_bytes(part[0]) + escaped[1:] if part.startswith(_FORMULA) else escaped


def _as_bytes(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))
