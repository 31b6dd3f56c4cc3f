"""A browser that is shared by the tests of pages."""

import pytest

from tests.report.devtools import Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    shown = Browser(tmp_path_factory.mktemp("profile"), seconds=300)
    yield shown
    shown.close()
