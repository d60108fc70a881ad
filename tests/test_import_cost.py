"""Importing the package, loading the extension and listing plugins bring nothing heavy with them."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp", "datasets", "deepeval", "litellm", "matplotlib", "mlflow", "nltk", "numpy", "onnxruntime",
    "pandas", "peft", "plotly", "psycopg", "pyarrow", "rapidfuzz", "sacrebleu", "scipy", "sklearn",
    "sqlalchemy", "sqlglot", "tokenizers", "torch", "transformers", "trl",
}  # fmt: skip


def loaded(code):
    """The top-level names in sys.modules after ``code``, in a fresh interpreter."""
    script = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_brings_no_heavy_package_and_no_ipython():
    assert loaded("import llmops_lab").isdisjoint(HEAVY | {"IPython"})


def test_every_public_name_can_be_looked_up_without_a_heavy_package():
    assert loaded("import llmops_lab as lab\nfor name in lab.__all__: getattr(lab, name)").isdisjoint(HEAVY)


def test_loading_the_extension_brings_no_heavy_package():
    code = "from IPython.core.interactiveshell import InteractiveShell\nbefore = set(sys.modules)\nshell = InteractiveShell.instance()\n"
    code += "shell.run_line_magic('load_ext', 'llmops_lab')\nassert 'prompt' in shell.magics_manager.magics['cell']"
    assert loaded(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("kind", ["scorers", "models", "embedders"])
def test_listing_plugins_imports_none_of_them(kind):
    code = f"from llmops_lab import plugins\nfor name in plugins.names({kind!r}): plugins.summary({kind!r}, name)\n"
    code += f"assert not [name for name in sys.modules if name.startswith('llmops_lab.{kind}.')]"
    assert loaded(code).isdisjoint(HEAVY)


def test_describing_the_scorers_brings_no_heavy_package():
    assert loaded("from llmops_lab.scorers import _run\nassert len(_run.describe()) > 15").isdisjoint(HEAVY - {"rapidfuzz"})


def test_the_help_of_the_command_line_brings_no_heavy_package():
    code = "from llmops_lab import cli\ntry: cli.main(['--help'])\nexcept SystemExit as done: assert not done.code"
    assert loaded(code).isdisjoint(HEAVY)
