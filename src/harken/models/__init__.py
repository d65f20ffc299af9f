"""Models: where they come from, how they run, what they are used as.

peft imports bitsandbytes, which on some processors warns at once that a kernel of its own cannot be fetched. Harken
does not call that kernel (`models.quantised_linear`), so this warning is left out, before anything here imports peft.
"""

import logging


def _is_not_about_the_kernel(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_not_about_the_kernel)
