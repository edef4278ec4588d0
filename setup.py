"""What pyproject.toml cannot say: the compiled module's recipe, and the wheel's tag (one binary for 3.11 and later)."""

from setuptools import setup

setup(
    cffi_modules=["src/coordemu/_build_native.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
