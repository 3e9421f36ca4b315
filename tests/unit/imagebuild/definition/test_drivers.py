from __future__ import annotations

import pytest

from imagebuild.definition.drivers import Disks, Drivers
from imagebuild.definition.image import ImageDefinition


def test_each_set_holds_the_ones_before_it() -> None:
    assert Drivers.CLOUD in Drivers.CLOUD
    assert Drivers.CLOUD in Drivers.SERVER
    assert Drivers.SERVER in Drivers.ALL
    assert Drivers.ALL not in Drivers.SERVER


@pytest.mark.parametrize("kernel", ["linux-image-cloud-amd64", "linux-image-6.12.118+deb13-cloud-amd64"])
def test_drivers_that_the_kernel_for_clouds_lacks_are_refused_with_the_kernel_that_has_them(kernel: str) -> None:
    with pytest.raises(ValueError, match=r"drivers: server needs another kernel.*kernel: linux-image-amd64"):
        ImageDefinition(id="x", kernel=kernel, drivers=Drivers.SERVER)
    assert ImageDefinition(id="x", kernel="linux-image-amd64", drivers=Drivers.ALL).drivers is Drivers.ALL


def test_folders_need_a_bus_and_a_kind_needs_a_way_to_be_found() -> None:
    with pytest.raises(ValueError, match="together"):
        Disks(Drivers.ALL, folders=("drivers/ata/",))
    with pytest.raises(ValueError, match="devices or folders"):
        Disks(Drivers.ALL)
