r"""Names of members as every table has them: printable, and never a formula.

Bytes that are no printable UTF-8, and the backslash, are spelt `\xNN`. So is a first
`=`, `+`, `-` or `@`, which would make a spreadsheet take the cell for a formula
(https://owasp.org/www-community/attacks/CSV_Injection). It is done once, where members are
read: index.csv and all tables after it share the spelling, so that names stay keys between
them. Reading each `\xNN` as that byte gives the original back.
"""

import hashlib

_FORMULA = ("=", "+", "-", "@")
LONGEST = 1024  # characters of a path that are kept; no file system has longer names


def spell(path: str) -> str:
    """A path as tables have it; one longer than LONGEST as a digest and its end.

    Args:
        path: with forward slashes; bytes that are not UTF-8 as lone surrogates.
    """
    spelt = "/".join(map(_spell_part, path.split("/")))
    if len(spelt) <= LONGEST:
        return spelt
    digest = hashlib.sha256(spelt.encode()).hexdigest()
    return f"{digest[:32]}...{spelt[-LONGEST // 4 :]}"


def _spell_part(part: str) -> str:
    spelt = part
    if not part.isprintable() or "\\" in part:
        spelt = "".join(c if c.isprintable() and c != "\\" else _as_bytes(c) for c in part)
    return _as_bytes(part[0]) + spelt[1:] if part.startswith(_FORMULA) else spelt


def _as_bytes(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))
