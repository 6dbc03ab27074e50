"""Image references: the three spellings and the names of refs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.oci import refnames
from bootc_build.onhost.oci.reference import (
    CONTAINER_POLICY,
    INSECURE,
    TRANSPORTS,
    ImageReference,
    ostree_remote,
)

registry_names = st.from_regex(
    r"[a-z0-9]+(\.[a-z0-9]+)?(:[0-9]{1,5})?/[a-z0-9]+((_|-|\.)[a-z0-9]+){0,2}(:[A-Za-z0-9_][\w.-]{0,9})?"
    r"(@sha256:[0-9a-f]{64})?",
    fullmatch=True,
).filter(str.isascii)
paths = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
policies = st.sampled_from([INSECURE, CONTAINER_POLICY, ostree_remote("fedora")])
references = st.one_of(
    st.builds(ImageReference, st.just("registry"), registry_names, policies),
    st.builds(ImageReference, st.sampled_from(TRANSPORTS[1:]), paths, policies),
)


@given(references)
def test_origin_text_gives_the_same_reference_back(image: ImageReference) -> None:
    assert ImageReference.parse_origin(image.to_origin()) == image


@given(references)
def test_skopeo_spelling_gives_the_same_image_back(image: ImageReference) -> None:
    assert ImageReference.parse_transport_qualified(image.skopeo, image.policy) == image


@given(references)
def test_image_ref_names_its_image(image: ImageReference) -> None:
    found = refnames.image_of_ref(refnames.image_ref(image))
    assert (found.transport, found.name) == (image.transport, image.name)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_unescape_reverses_escape(text: str) -> None:
    escaped = refnames.escape(text)
    assert refnames.unescape(escaped) == text
    assert all(char.isascii() and (char.isalnum() or char in "-_/") for char in escaped)
    assert "//" not in escaped
    assert not escaped.startswith("/")
    assert not escaped.endswith("/")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("docker://quay.io/a/b:latest", "docker_3A__2F__2F_quay_2E_io/a/b_3A_latest"),
        ("localhost:5000/foo:latest", "localhost_3A_5000/foo_3A_latest"),
        ("sha256:ab", "sha256_3A_ab"),
        ("a_b-c/", "a__b-c_2F_"),
        ("fedora/x86_64/coreos", "fedora/x86__64/coreos"),
    ],
)
def test_escaping_is_upstreams(text: str, escaped: str) -> None:
    assert refnames.escape(text) == escaped


@pytest.mark.parametrize("name", ["a_", "a_zz_", "a b", "_110000_", "a.b"])
def test_what_escape_never_writes_is_refused(name: str) -> None:
    with pytest.raises(UserError):
        refnames.unescape(name)


@pytest.mark.parametrize(
    ("origin", "transport", "name", "policy"),
    [
        ("ostree-unverified-registry:quay.io/a/b:1", "registry", "quay.io/a/b:1", INSECURE),
        ("ostree-unverified-image:oci:/p/q:t", "oci", "/p/q:t", INSECURE),
        ("ostree-unverified-image:docker://q.io/a", "registry", "q.io/a", INSECURE),
        ("ostree-unverified-image:registry:q.io/a", "registry", "q.io/a", INSECURE),
        ("ostree-image-signed:docker://q.io/a", "registry", "q.io/a", CONTAINER_POLICY),
        ("ostree-remote-registry:fedora:q.io/a", "registry", "q.io/a", ostree_remote("fedora")),
        ("ostree-remote-image:fedora:docker://q/a", "registry", "q/a", ostree_remote("fedora")),
    ],
)
def test_upstreams_origin_forms_are_read(
    origin: str, transport: str, name: str, policy: object
) -> None:
    image = ImageReference.parse_origin(origin)
    assert (image.transport, image.name, image.policy) == (transport, name, policy)


@pytest.mark.parametrize(
    "text",
    ["", "quay.io/a", "ostree-remote-registry:x", "foo:bar", "ostree-unverified-registry:",
     "ostree-unverified-image:docker:a", "ostree-unverified-image:nope:/x"],
)  # fmt: skip
def test_other_origins_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ImageReference.parse_origin(text)


@pytest.mark.parametrize(
    ("target", "transport"),
    [("Quay.io/UPPER", "registry"), ("UPPER/x", "registry"), ("docker://q.io/a", "registry"), ("", "oci"), ("a b", "registry"),
     ("x", "ftp"), ("q.io/a:", "registry"), ("-", "registry")],
)  # fmt: skip
def test_command_line_nonsense_is_a_usage_error(target: str, transport: str) -> None:
    with pytest.raises(UsageError) as caught:
        ImageReference.parse_cli(target, transport)
    assert caught.value.remedy


def test_registry_and_digest_are_found_in_the_name() -> None:
    digest = "sha256:" + "a" * 64
    image = ImageReference("registry", f"localhost:5000/a/b:1@{digest}")
    assert (image.registry, image.digest) == ("localhost:5000", digest)
    assert ImageReference("registry", "library/debian").registry is None


@pytest.mark.parametrize(
    ("transport", "name", "expected"),
    [
        ("registry", "h:5000/a/b", "h:5000/a/b:new"),
        ("registry", "h:5000/a/b:old", "h:5000/a/b:new"),
        ("registry", "h/a@sha256:" + "0" * 64, "h/a:new"),
        ("containers-storage", "localhost/a:old", "localhost/a:new"),
        ("docker-daemon", "a:old", "a:new"),
        ("oci", "/var/os:old", "/var/os:new"),
        ("oci", "/var/os", "/var/os:new"),
        ("oci-archive", "/var/os.tar:quay.io/a:b", "/var/os.tar:new"),
    ],
)
def test_another_tag_keeps_the_repository(transport: str, name: str, expected: str) -> None:
    assert ImageReference(transport, name).with_tag("new").name == expected


@pytest.mark.parametrize("transport", ["registry", "oci", "containers-storage"])
@pytest.mark.parametrize("tag", ["", "a b", "a/b", "x" * 129])
def test_what_is_no_tag_is_refused(transport: str, tag: str) -> None:
    with pytest.raises(UsageError, match="is no tag"):
        ImageReference(transport, "a").with_tag(tag)


def test_a_folder_has_no_tags() -> None:
    with pytest.raises(UsageError, match="no tags"):
        ImageReference("dir", "/x").with_tag("new")
