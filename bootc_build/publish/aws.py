"""AWS by boto3: clients with patience, and its errors in the user's words.

boto3 is loaded here and only when something is published: the rest of the program does without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from bootc_build.onhost.errors import UserError

# boto3 makes its clients' methods at run time, from descriptions of the services.
Client: TypeAlias = Any

_NOT_ALLOWED = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
_BAD_CREDENTIALS = (
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
)
_CREDENTIALS_REMEDY = (
    "See what 'aws sts get-caller-identity' says; --profile chooses other credentials."
)
# Of one call, the first try included; waits double from a second to twenty.
_TRIES = 8
# Of the question that comes first: whether the network is up and the region exists shows there.
_FIRST_TRIES = 3


@dataclass(frozen=True)
class Access:
    """How AWS is reached.

    Attributes:
        profile: of the shared configuration; None for boto3's own choice.
        endpoint: URL that serves every service, instead of AWS's own; None for those.
        connections: at most so many at once, of each client.
    """

    profile: str | None = None
    endpoint: str | None = None
    connections: int = 10


class CallRefusedError(UserError):
    """AWS answered a call with an error.

    Attributes:
        code: AWS's name of the error.
    """

    def __init__(self, fact: str, remedy: str, code: str) -> None:
        super().__init__(fact, remedy)
        self.code = code

    @property
    def means_not_allowed(self) -> bool:
        """Whether the caller lacks the permission."""
        return self.code in _NOT_ALLOWED


class Aws:
    """Clients of one account.

    Args:
        access: how it is reached.

    Raises:
        UserError: boto3 is not installed, or there is no such profile.
    """

    def __init__(self, access: Access) -> None:
        try:
            import boto3  # noqa: PLC0415 - see above
            from botocore.config import Config  # noqa: PLC0415
        except ImportError as error:
            raise UserError(
                "Publishing to AWS needs boto3, which is not installed.",
                "Install it with: apt-get install python3-boto3 (or pip install 'bootc-build[aws]')",
            ) from error
        with calls("reading AWS's configuration"):
            self._session = boto3.Session(profile_name=access.profile)
        self._endpoint = access.endpoint
        patience = {
            "max_pool_connections": access.connections,
            "connect_timeout": 10,
            "read_timeout": 60,
        }
        self._first, self._config = (
            Config(retries={"mode": "standard", "max_attempts": tries}, **patience)
            for tries in (_FIRST_TRIES, _TRIES)
        )
        self.client = cache(self._client)

    def _client(self, service: str, region: str) -> Client:
        """A client, one for each service and region; it may be used by several threads."""
        config = self._first if service == "sts" else self._config
        with calls(f"reaching {service} in {region}"):
            return self._session.client(
                service, region_name=region, endpoint_url=self._endpoint, config=config
            )


@contextmanager
def calls(what: str) -> Iterator[None]:
    """Turn AWS's errors into the user's.

    Args:
        what: what the calls do, as in "while <what>".

    Raises:
        CallRefusedError: AWS said no.
        UserError: it could not be asked.
    """
    from botocore import exceptions  # noqa: PLC0415 - see above

    try:
        yield
    except exceptions.ClientError as error:
        raise _refused(what, error.response.get("Error", {})) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise UserError(
            "There are no credentials for AWS.",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --profile.",
        ) from error
    except exceptions.ProfileNotFound as error:
        raise UserError(
            str(error) + ".", "See the profiles with: aws configure list-profiles"
        ) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise UserError(
            f"AWS was not reached while {what}: {error}",
            "Is the network up, and does this region exist?",
        ) from error
    except exceptions.BotoCoreError as error:
        raise UserError(f"AWS failed while {what}: {error}") from error


def _refused(what: str, error: dict[str, str]) -> CallRefusedError:
    code = error.get("Code", "unknown")
    remedy = ""
    if code in _NOT_ALLOWED:
        remedy = (
            "Allow it in the IAM policy of these credentials; docs/ami.md has one that suffices."
        )
    elif code in _BAD_CREDENTIALS:
        remedy = _CREDENTIALS_REMEDY
    said = (error.get("Message") or "no reason given").rstrip(".")
    return CallRefusedError(f"AWS refused {what}: {said} ({code}).", remedy, code)
