"""The ordinary pictures to which the tests of the scan add others."""

import pytest

from tests.data.scan.scan_pictures import encode, facts_of, picture


@pytest.fixture(scope="session")
def ordinary():
    """Return the facts of sixty pictures with nothing wrong."""
    return facts_of({f"{seed}.jpg": (encode(picture(seed)), "JPEG") for seed in range(60)})
