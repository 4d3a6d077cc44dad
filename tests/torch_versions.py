"""What older versions of torch cannot do, whatever the model."""

import pytest
import torch

dynamic_export = pytest.mark.skipif(
    torch.__version__.startswith("2.4."),
    reason="torch 2.4 cannot export strided convolutions for any size",
)
