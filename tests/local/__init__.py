"""The whole stack, deployed on the local cloud."""

import pytest

pytest.register_assert_rewrite("tests.local.world")
