"""What a simulated cluster did that it must never do."""


class ViolationError(Exception):
    """A checker has found something.

    Args:
        checker: its name.
        text: what it has seen.

    Attributes:
        checker: as given.
    """

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker
