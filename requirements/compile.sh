#!/usr/bin/env bash
# Writes the hashed locks from the .in files: `make lock`. Runs at the repository's top.
set -euo pipefail
uv=${UV:?the uv to use}
lock() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade "$@"; }
# Lambda's Python runtime ships boto3 and what it needs (Powertools' jmespath is ours); CEL's command line is not used.
runtime=(boto3 botocore s3transfer urllib3 python-dateutil six)
unused=(typer rich prompt-toolkit pygments markdown-it-py mdurl wcwidth shellingham annotated-doc colorama)
layer() { lock "layers/$1/requirements.in" -o "layers/$1/requirements.txt" "${@:2}"; }
layer edge $(printf -- '--no-emit-package %s ' "${runtime[@]}")
layer deps $(printf -- '--no-emit-package %s ' "${runtime[@]}" "${unused[@]}")
layer parquet
layer templates
layer runtime
for name in tools sam cloud dev; do lock "requirements/$name.in" -o "requirements/$name.txt"; done
