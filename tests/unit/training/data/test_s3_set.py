"""Latent sets on an S3 server of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from support.latent_sets import make_latent_set
from support.object_store import BUCKET, s3_server
from support.remote_sets import assert_same, sent
from support.training_runs import identical, small_config, weights

from training.data import open_latent_set
from training.data.latent_set import LatentSet, LatentSetError
from training.data.remote import Remote, RemoteError
from training.train import train
from training.train.checkpoints.reader import latest
from training.train.checkpoints.run_folder import step_of


@pytest.fixture(autouse=True)
def _s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with s3_server() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield


@pytest.mark.slow
@pytest.mark.processes
def test_workers_read_a_set_from_s3(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path / "latents", crop=(2, 2))
    address = sent(folder, f"s3://{BUCKET}/latents")
    latents = open_latent_set(address)
    assert_same(latents, open_latent_set(folder))
    for path in (tmp_path / "cache" / "files").iterdir():
        path.unlink()
    remaining = open_latent_set(address)
    loader = torch.utils.data.DataLoader(_Means(remaining), batch_size=None, num_workers=2)
    local = open_latent_set(folder)
    for index, mean in enumerate(loader):
        assert torch.equal(mean, local.moments(index, True, False)[0])


@pytest.mark.slow
@pytest.mark.processes
def test_a_run_from_s3_that_resumes_equals_one_from_the_disk(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path / "latents", crop=(2, 2))
    address = sent(folder, f"s3://{BUCKET}/latents")
    assert train(small_config(folder, tmp_path / "disk")) == 0
    run = tmp_path / "s3"
    options = ["--checkpoints.every=3", "--batch.workers=1", "--resume=latest"]
    config = small_config(Path(address), run, *options)
    assert train(config) == 0
    shutil.rmtree(latest(run))
    assert step_of(latest(run)) == 3
    assert train(config) == 0
    assert identical(weights(run), weights(tmp_path / "disk"))


@pytest.mark.slow
def test_s3_without_the_bucket_or_the_server_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LatentSetError, match="not a latent set"):
        open_latent_set("s3://nowhere/latents")
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(RemoteError, match="no such place to write to"):
        Remote("s3://nowhere/latents").upload(tmp_path / "a", "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(RemoteError, match=r"s3://sets/latents/latent_set.json: no success in 3"):
        open_latent_set(f"s3://{BUCKET}/latents")


class _Means(torch.utils.data.Dataset):
    def __init__(self, latents: LatentSet) -> None:
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.latents.moments(index, True, False)[0]
