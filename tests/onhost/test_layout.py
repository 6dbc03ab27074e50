import json
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.imageproxy import open_image
from bootc_build.onhost.oci.layout import LayoutImage, open_source
from bootc_build.onhost.oci.reference import CONTAINER_POLICY, ImageReference
from tests.onhost.oci_images import File, WrittenImage, write_image


@pytest.fixture
def written(tmp_path: Path) -> WrittenImage:
    return write_image(tmp_path / "layout", [[File("usr/a", data=b"x" * 9000)]])


def reference(written: WrittenImage) -> ImageReference:
    return ImageReference.parse_transport_qualified(written.skopeo)


def test_layout_is_read_as_skopeo_reads_it(written: WrittenImage) -> None:
    with open_source(reference(written)) as ours, open_image(reference(written)) as theirs:
        assert isinstance(ours, LayoutImage)
        assert ours.manifest() == theirs.manifest()
        assert ours.config() == theirs.config()
        [layer] = ours.manifest()[1].layers
        contents = []
        for source in (ours, theirs):
            with source.blob(layer, written.diff_ids[0]) as blob:
                content = b""
                while chunk := blob.read(4096):
                    content += chunk
                contents.append(content)
        assert contents[0] == contents[1] != b""


def test_damaged_configuration_is_refused(written: WrittenImage) -> None:
    path = written.blob(written.config_digest)
    path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
    with (
        pytest.raises(UserError, match="is damaged"),
        open_source(reference(written)) as opened,
    ):
        opened.config()


def test_missing_blob_is_named(written: WrittenImage) -> None:
    written.blob(written.layer_digests[0]).unlink()
    with open_source(reference(written)) as opened:
        [layer] = opened.manifest()[1].layers
        with (
            pytest.raises(UserError, match=written.layer_digests[0]),
            opened.blob(layer, written.diff_ids[0]),
        ):
            pass


@pytest.mark.parametrize(
    "policy",
    [
        {"default": [{"type": "reject"}]},
        {
            "default": [{"type": "insecureAcceptAnything"}],
            "transports": {"oci": {"": [{"type": "reject"}]}},
        },
    ],
)
def test_policy_that_refuses_layouts_is_obeyed(
    written: WrittenImage,
    policy: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".config/containers").mkdir(parents=True)
    (tmp_path / ".config/containers/policy.json").write_text(json.dumps(policy))
    # Whether it refuses now or later is for skopeo to say.
    with suppress(UserError), open_source(reference(written)) as opened:
        assert not isinstance(opened, LayoutImage)


def test_image_that_must_be_signed_is_not_read_directly(written: WrittenImage) -> None:
    image = ImageReference("oci", reference(written).name, CONTAINER_POLICY)
    with pytest.raises(UserError), open_source(image):
        pass


def test_what_is_not_plain_is_left_to_skopeo(written: WrittenImage) -> None:
    absent = ImageReference("oci", f"{written.layout}:absent")
    with pytest.raises(UserError, match="absent"), open_source(absent):
        pass
