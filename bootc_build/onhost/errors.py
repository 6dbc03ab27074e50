"""The one family of errors that a user can cause or meet.

Only a program's ``main`` turns these into a message and an exit status; everything else raises them.
Any other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Something that the user can understand and mend.

    Args:
        fact: one sentence that names the thing and the place ("Image 'os:v2' is not in local storage.").
        remedy: one sentence that says what to do about it ("Pull it with: podman pull os:v2"); may be empty.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.fact}\n{self.remedy}" if self.remedy else self.fact


class UsageError(UserError):
    """Wrong arguments or configuration: exit status 2 instead of 1."""
