"""Contain a fault of ours where it must not harm others: the one place that stops exceptions of every kind.

Code that expects an error names its class in an `except`. This is for faults that no code expects.
"""

from types import TracebackType


class Contained:
    """A `with` block that an unexpected exception ends but does not leave; it is in `fault` afterwards, else None.

    Exceptions of the classes in `expected` leave the block as usual, and so do CancelledError, KeyboardInterrupt and
    SystemExit.
    """

    __slots__ = ("expected", "fault")

    def __init__(self, *expected: type[Exception]) -> None:
        self.expected = expected
        self.fault: Exception | None = None

    def __enter__(self) -> "Contained":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, self.expected):
            return False
        self.fault = error
        return True
