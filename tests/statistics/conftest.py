import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "statistics: seeded simulations that hold the statistical claims; under a minute together"
    )
