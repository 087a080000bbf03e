#!/bin/sh
# Install the node into a virtual environment: install.sh cpu|cuda FOLDER, in the folder of pyproject.toml.
set -eu
accelerator=$1
venv=$2
python3 -m venv "$venv"
case $accelerator in
    cuda)
        "$venv/bin/pip" install '.[postgresql,cuda]'
        ;;
    cpu)
        # tensorflow-cpu is the same library under another name, which pip cannot know: everything else is installed
        # first, by the list in pyproject.toml
        python3 - > requirements.txt <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["postgresql"]:
    print(requirement.replace("tensorflow", "tensorflow-cpu", 1) if requirement.startswith("tensorflow") else requirement)
PYTHON
        "$venv/bin/pip" install --requirement requirements.txt
        "$venv/bin/pip" install --no-deps .
        ;;
    *)
        echo "install.sh: $accelerator was given; expected cpu or cuda" >&2
        exit 64
        ;;
esac
"$venv/bin/pip" uninstall --yes pip
