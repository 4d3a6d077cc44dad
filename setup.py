"""Beside setup.cfg: the configs, which stand beside the package in a checkout, travel inside it in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `configs/` into the package that is built; an editable install finds it in the checkout."""

    def run(self) -> None:
        """Builds, then copies."""
        super().run()
        if not getattr(self, "editable_mode", False):
            shutil.copytree("configs", Path(self.build_lib, "backbone_kit", "configs"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
