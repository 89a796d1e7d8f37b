import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MIM = ['configs/**/*.py', 'configs/**/*.yml', 'configs/**/*.md', 'tools/**/*.py', 'tools/*.sh']


def requirements(name: str) -> list[str]:
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


setup(
    name='dms-mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'dms_mm/__init__.py').read_text()).group(1),
    description='Differentiable Model Scaling: search widths and depths under a budget, in the OpenMMLab style',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['dms_mm', 'dms_mm.*']),
    # Where MMEngine's `dms_mm::family/config.py` and mim look for configs and tools; a checkout has links there.
    package_data={'dms_mm': ['.mim/model-index.yml', *(f'.mim/{f}' for f in MIM)]},
    entry_points={'console_scripts': ['dms=dms_mm.cli.main:main']},
    python_requires='>=3.10',
    # Enough for models of one's own; MMPretrain, timm and what the tools write (plots, ONNX) come with the extra.
    install_requires=['torch>=2.6', 'numpy>=1.26', 'pydantic>=2.8,<3', 'onedl-mmengine>=0.10.12,<0.11'],
    extras_require={
        'mm': requirements('runtime'),
        'detection': requirements('detection'),
        'llm': requirements('llm'),
        'tests': requirements('tests'),
        'docs': requirements('docs'),
    },
)
