"""Find, load, run and save models, and give them roles.

peft imports bitsandbytes, which on some processors warns on import that one of its kernels cannot be fetched. Harken
does not call that kernel (`models.quantised_linear`), so the warning is silenced before anything here imports peft.
"""

import logging


def _is_not_about_the_kernel(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_not_about_the_kernel)
