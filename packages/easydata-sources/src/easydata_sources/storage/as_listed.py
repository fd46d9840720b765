"""Reading a file as the one that was listed: changed or gone since, it is told so, and never read as another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from easydata_sources.errors import DataError, DataFilesNotFoundError
from easydata_sources.storage.files import DataFile
from easydata_sources.storage.server_faults import reading_failed


@contextmanager
def as_listed(file: DataFile) -> Iterator[None]:
    """Raises if the file is not the one that was listed: before and after reading, or where reading it fails.

    A remote file is asked only where reading fails, as each question is a request.
    """
    try:
        if not file.remote:
            file.check_unchanged()
        try:
            yield
        except (ValueError, LookupError, OSError):
            with suppress(OSError) if file.remote else nullcontext():
                file.check_unchanged()
            raise
        if not file.remote:
            file.check_unchanged()
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataFilesNotFoundError(
            f"{file.name!r} was listed and is not there any more.\n  mend: bring it back, or list the files again"
        ) from error
    except (ValueError, LookupError) as error:
        if not file.remote:
            raise
        raise reading_failed(error, file.name) from error  # what clients raise on answers that make no sense
