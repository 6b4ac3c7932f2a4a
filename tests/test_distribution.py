"""How the package is installed follows from the addresses in its metadata."""

from email.message import Message

import pytest

from vae_plugin import distribution

INDEX = "Index, https://index.example/vae-plugin"
REPOSITORY = "Repository, https://git.example/vae-plugin"


@pytest.mark.parametrize(
    ("addresses", "command"),
    [
        ([], None),
        (["Homepage, https://example.org"], None),
        ([REPOSITORY], "pip install git+https://git.example/vae-plugin"),
        ([REPOSITORY, INDEX], "pip install vae-plugin"),
    ],
)
def test_the_command_installs_from_the_index_or_else_the_repository(addresses, command, monkeypatch):
    metadata = Message()
    for address in addresses:
        metadata["Project-URL"] = address
    monkeypatch.setattr(distribution, "metadata", lambda name: metadata)
    assert distribution.install_command() == command
