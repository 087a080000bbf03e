from __future__ import annotations

import os

import pytest

from pacs_guard.detect import device
from pacs_guard.errors import AcceleratorLostError, BundleError


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(device, "_wanted", device.AUTO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.mark.parametrize(
    "text",
    [
        "failed to enqueue async memcpy: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
        "INTERNAL: cudaErrorDevicesUnavailable",
        "could not create cudnn handle: CUDNN_STATUS_INTERNAL_ERROR",
        "Unable to determine the device handle: GPU is lost. Reboot the system",
    ],
)
def test_what_is_said_when_the_device_is_gone_becomes_one_error(text):
    with pytest.raises(AcceleratorLostError, match="the accelerator is gone"), device.watched():
        raise RuntimeError(text)


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match="shapes"), device.watched():
        raise ValueError("shapes do not fit")


def test_on_the_cpu_no_gpu_is_looked_for(monkeypatch):
    monkeypatch.setattr(device.Path, "glob", lambda *_: iter(["/dev/nvidia0"]))
    assert device.gpu_device()
    device.want("cpu")
    assert not device.gpu_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    device.check_wanted(has_gpu=False)


def test_a_gpu_that_is_wanted_and_not_there_is_said():
    device.want("gpu")
    device.check_wanted(has_gpu=True)
    with pytest.raises(BundleError, match=r"detect\.accelerator"):
        device.check_wanted(has_gpu=False)
