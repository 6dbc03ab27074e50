import json
from pathlib import Path

import pytest
from oci_images import Layer, write_image

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.imageproxy import open_image
from bootc_build.onhost.oci.layout import LayoutImage, open_source
from bootc_build.onhost.oci.reference import ImageReference
