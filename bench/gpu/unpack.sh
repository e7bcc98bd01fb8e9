#!/bin/sh
# Unpacks the bundle that this file is in:  sh unpack.sh FOLDER   (all bundles into the same one)
# Then:  cd FOLDER/project && PYTHONPATH=.:tests:../site python3 bench/gpu/run.py --out RESULTS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/site" "$1/project/build/gpu"
to=$(cd "$1" && pwd)
if [ -d "$here/wheels" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$to/site" "$here"/wheels/*.whl
fi
for packed in "$here"/*.tar.xz; do
    case $(basename "$packed") in
        project*) tar -xJf "$packed" -C "$to/project" ;;
        data*) tar -xJf "$packed" -C "$to/project/build/gpu" ;;
        *) tar -xJf "$packed" -C "$to/site" ;;
    esac
done
