"""A data set of the hub is what lies in the cache of the hub; nothing is downloaded unless it is asked for."""

import socket
from pathlib import Path

import pytest

import assay
from assay.datasets.folder import folder
from assay.datasets.hub import hub

from .test_formats import IMAGES, LABELS, parquets

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it connects"))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """OWNER/toys as the library keeps it: a snapshot of a commit, and what main is."""
    top = tmp_path / "hub" / "datasets--owner--toys"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text(COMMIT)
    (top / "snapshots").mkdir()
    return parquets(top / "snapshots" / COMMIT, IMAGES, LABELS)


def test_what_the_cache_has_is_that_of_the_folder(there: Path) -> None:
    data, plain = hub("owner/toys"), folder(str(there))
    assert data.fingerprint == plain.fingerprint
    assert list(data.classes) == ["cat", "dog"]
    assert hub("owner/toys", part="data").fingerprint == plain.fingerprint
    record = assay.evaluate("precision", IMAGES, "hub(name='owner/toys')", features="pixels")
    assert record.rows[0].estimate.value == 1


def test_nothing_is_downloaded_unless_it_is_asked_for(there: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not in the cache of the hub; dataset\.hub\.download=true"):
        hub("owner/other")
    with pytest.raises(ValueError, match="has no Parquet files in no/such"):
        hub("owner/toys", part="no/such")
    for name in ("", "toys", "../toys", "a/b/c"):
        with pytest.raises(ValueError, match="needs a name OWNER/NAME"):
            hub(name)
    with pytest.raises(ValueError, match=r"dataset\.hub\.part='\.\./x' must be a folder of the repository"):
        hub("owner/toys", part="../x")
    with pytest.raises(FileNotFoundError, match=r"hub\(name='owner/other', download=true\)"):
        assay.evaluate("precision", IMAGES, "owner/other", features="pixels")
