"""Define the fixes of file system errors that a user can correct."""

from __future__ import annotations

import errno

FIX_DISK_FULL = "make room, or choose another folder"
_FIX_PERMISSIONS = "change the permissions, or choose another folder"
_FIX_NAME = "choose another name or folder"
OS_ERROR_FIXES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _FIX_PERMISSIONS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), FIX_DISK_FULL),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP), _FIX_NAME),
    **dict.fromkeys((errno.EOVERFLOW, errno.ENXIO), "restore the file"),
    errno.EIO: "check the disk",
    errno.ENOENT: "create it, or choose another name or folder",
}
"""Fixes of file system errors that the user can correct. Any other OSError is a bug in Harken."""
