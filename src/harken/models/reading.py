"""Around the code of others that reads a model's files: what it raises on a damaged one becomes one line."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError

from harken.errors import UserError

FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, re.error, struct.error),
    *(SafetensorError, StrictDataclassError, TemplateError),
)
"""What transformers, peft, safetensors, gguf and chat templates raise on files they cannot make sense of."""
LONGEST = 240


@contextmanager
def reading(what: str, where: str, mend: str) -> Iterator[None]:
    """Inside, a fault of the files is a UserError: "`what` (the reason)".

    Only for calls into other libraries: a fault of ours must stay one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # tokenizers, written in Rust, raises Exception itself; whatever else is none of these is a fault of ours.
        if type(error) is not Exception and not isinstance(error, FAULTS):
            raise
        raise UserError(f"{what} ({reason(error)})", where=where, mend=mend) from error


def reason(error: Exception) -> str:
    """Why, in a line: the first that the error says, with its kind where that alone would be a riddle."""
    said = " ".join((str(error).strip().splitlines() or [""])[0].split())
    kind = "" if said and isinstance(error, OSError | ValueError | RuntimeError) else type(error).__name__
    text = ": ".join(part for part in (kind, said) if part)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
