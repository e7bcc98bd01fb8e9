"""An S3 server (moto), found and entered as a user would: by the variables that all AWS tools know."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def bucket() -> Iterator[str]:
    """Run a server, which s3fs talks to over HTTP; gives the URL of an empty bucket."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()  # another test's buckets
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        yield "s3://bucket"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    moto.stop()


def upload(folder: str, url: str) -> None:
    """Copy a folder to a URL."""
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.put(f"{folder}/", f"{path}/", recursive=True)
    filesystem.invalidate_cache()
