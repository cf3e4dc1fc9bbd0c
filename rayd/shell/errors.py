"""What keeps a daemon from starting."""


class StartError(Exception):
    """The daemon cannot start as configured. The text is for the user: the exact cause and the way out."""
